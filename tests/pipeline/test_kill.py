"""SIGKILL at random points never changes a result; see ``faults.py`` for any number of kills."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pipeline import faults


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sre2l", "cda", "dc"])
def test_a_run_killed_three_times_ends_as_if_never_touched(method: str, tmp_path: Path) -> None:
    hit = faults.check(method, 3, 1, tmp_path)
    assert sum(hit.values()) == 3
