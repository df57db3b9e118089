"""The monitor: what stages took, over all processes of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from guard_plugins.runtime.monitor import Monitor
from guard_plugins.runtime.signals import StoppedError


def test_stages_add_up_over_processes_and_a_line_cut_off_by_a_kill_is_passed_over(tmp_path: Path) -> None:
    events = tmp_path / "events.jsonl"
    events.write_text(
        '{"event": "stage ends", "stage": "teacher", "seconds": 2.5}\n'
        '{"event": "stage stopped", "stage": "distill", "seconds": 1.5}\n'
        '["no event"]\n{"event": "stage ends", "stage": "dist'
    )
    monitor = Monitor(events, quiet=True)
    monitor.seconds = {"distill": 3.0, "students": 0.25}
    assert monitor.total_seconds() == {"teacher": 2.5, "distill": 4.5, "students": 0.25}


def test_a_stage_that_is_stopped_is_timed_and_one_that_fails_is_not(tmp_path: Path) -> None:
    monitor = Monitor(tmp_path / "events.jsonl", quiet=True)
    with pytest.raises(StoppedError), monitor.stage("teacher"):
        raise StoppedError(2)
    with pytest.raises(ValueError, match="no"), monitor.stage("distill"):
        raise ValueError("no")
    assert list(monitor.seconds) == ["teacher"]
    assert '"stage stopped", "stage": "teacher"' in (tmp_path / "events.jsonl").read_text()
