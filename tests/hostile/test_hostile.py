"""The small fixed part of ``python -m tests.hostile``; tests/pipeline/test_kill.py has the kills."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hostile.configurations import try_configurations
from tests.hostile.damage import prepare, try_damaged


def test_some_generated_configurations(tmp_path: Path) -> None:
    tally = try_configurations(25, 0, tmp_path)
    assert tally.faults == []
    assert tally.codes.keys() <= {"0", "2"}
    assert tally.codes["2"] > 5


@pytest.mark.slow
def test_some_damaged_artifacts(tmp_path: Path) -> None:
    tally = try_damaged(60, 0, tmp_path, prepare(tmp_path))
    assert tally.faults == []
    assert sum(tally.codes.values()) == 60
    assert tally.codes["2"]  # about one in eleven; where bytes are hit depends on lengths of times and paths
