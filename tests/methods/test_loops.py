from __future__ import annotations

import pytest

from guard_dc.schedule import loops_for


@pytest.mark.parametrize(
    ("ipc", "expected"), [(1, (1, 1)), (10, (10, 50)), (20, (20, 25)), (30, (30, 20)), (40, (40, 15)), (50, (50, 10))]
)
def test_published_loops(ipc: int, expected: tuple[int, int]) -> None:
    assert loops_for(ipc) == expected


@pytest.mark.parametrize(
    ("ipc", "expected"), [(2, (2, 6)), (5, (5, 23)), (15, (15, 38)), (25, (25, 22)), (45, (45, 12))]
)
def test_between_published_values_the_inner_loop_is_interpolated(ipc: int, expected: tuple[int, int]) -> None:
    assert loops_for(ipc) == expected


@pytest.mark.parametrize("ipc", [51, 100, 1000])
def test_beyond_the_table_its_last_entry_stays(ipc: int) -> None:
    assert loops_for(ipc) == (50, 10)


def test_the_outer_loop_never_falls_with_the_number_of_images() -> None:
    outer = [loops_for(ipc).outer for ipc in range(1, 80)]
    assert outer == sorted(outer)
