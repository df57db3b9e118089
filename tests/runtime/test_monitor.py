"""The monitor: what stages took, over all processes of a run."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
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


def test_a_reader_who_has_gone_is_a_broken_pipe_and_no_end_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with monkeypatch.context() as patched, os.fdopen(writer, "w", buffering=1, closefd=False) as gone:
        patched.setattr("sys.stderr", gone)
        with pytest.raises(BrokenPipeError), contextlib.suppress(SystemExit):
            Monitor().say("hello")
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, writer)
    os.close(null)
    os.close(writer)


def test_a_run_whose_reader_has_gone_ends_with_the_code_of_a_closed_pipe() -> None:
    script = "from guard_plugins.cli.exit_codes import exit_code\nfrom guard_plugins.runtime.monitor import Monitor\n"
    script += "import sys, time\nsys.stdin.readline()\nsys.exit(exit_code(lambda: Monitor().say('x')))"
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    assert process.stdin is not None
    assert process.stderr is not None
    process.stderr.close()
    process.stdin.close()
    assert process.wait(60) == 141
