"""A run in several processes leaves what one process leaves, and ends everywhere alike whatever happens in one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from guard_plugins.cli.run import main
from tests.pipeline.conftest import numbers
from tests.pipeline.launch import launched
from tests.pipeline.test_shares import TINY, hashes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

PLUGIN = Path(__file__).parent / "faulty.py"
COMMON = f"""--method faulty --plugin {PLUGIN} --dataset digits --device cpu --ipc 1 --student.epochs 1
--evaluation.images 5 --evaluation.gate off""".split()
FAULTY = [*COMMON, "--teacher.epochs", "1"]


@pytest.fixture(scope="module")
def faultless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faultless") / "run"
    assert main([*FAULTY, "--output", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def with_teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("with-teacher") / "run"
    assert main([*FAULTY, "--output", str(folder), "--stop-after", "teacher"]) == 0
    return folder


@pytest.fixture
def begun(tmp_path: Path, with_teacher: Path) -> Path:
    """Return the folder of a run whose teacher is trained."""
    return Path(shutil.copytree(with_teacher, tmp_path / "run"))


def same(folder: Path, other: Path) -> bool:
    """Return whether two runs left the same set, labels and numbers."""
    return hashes(folder) == hashes(other) and numbers(folder) == numbers(other)


def test_torchrun_leaves_what_one_process_leaves(tmp_path: Path) -> None:
    alone, together = tmp_path / "alone", tmp_path / "together"
    assert main([*TINY, "--output", str(alone)]) == 0
    assert main([*TINY, "--output", str(together), "--stop-after", "teacher"]) == 0  # in others, it differs by rounding
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    run = [*command, "guard_plugins", "--resume", str(together)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(run, capture_output=True, text=True, env=environment, check=False, timeout=500)
    assert done.returncode == 0, done.stderr
    assert same(together, alone)
    assert "4 items (recover/0, ...) over 2 processes" in done.stderr
    assert done.stderr.count("processes share the items") == done.stdout.count("| teacher |") == 1
    begins = [json.loads(line) for line in (together / "events.jsonl").read_text().splitlines()]
    assert [event["stage"] for event in begins if event["event"] == "stage begins"].count("distill") == 1


def test_work_is_dealt_evenly(tmp_path: Path, begun: Path, faultless: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNTS", str(tmp_path))
    with launched(tmp_path / "logs", 2, "--resume", str(begun)) as processes:
        assert processes.codes() == [0, 0], processes.said()
    assert same(begun, faultless)
    assert [json.loads((tmp_path / str(rank)).read_text())["forwards"] for rank in range(2)] == [3 * 4, 2 * 4]


@pytest.mark.parametrize(
    ("fault", "code", "message"), [("nan", 1, "is no longer a finite number"), ("file", 2, "The image 7.png is broken")]
)
def test_an_error_in_one_process_ends_all(
    fault: str, code: int, message: str, tmp_path: Path, with_teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other process has items for hours to come, and stops at its next step."""
    monkeypatch.setenv("PAUSE", "0.2")
    options = f"--fault {fault} --where 1 --steps 20000 --teacher {with_teacher}/teacher.safetensors"
    with launched(tmp_path / "logs", 2, *COMMON, *options.split(), "--output", str(tmp_path / "new")) as processes:
        assert processes.codes() == [code, code]
        first, other = processes.said()
    assert message in first
    assert "process 1 of 2" in first
    assert other == ""


def test_a_signal_to_one_process_stops_all_and_any_number_goes_on(
    tmp_path: Path, begun: Path, faultless: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAUSE", "3")
    with launched(tmp_path / "logs", 2, "--resume", str(begun)) as processes:
        processes.until(lambda: processes.at_work(1, begun / "checkpoints"))
        processes.processes[1].send_signal(signal.SIGTERM)
        assert processes.codes() == [128 + signal.SIGTERM] * 2
        assert "Stopped. Continue with: guard-run --resume" in processes.said()[0]
    assert not list(begun.glob("**/*.part"))
    assert not list(begun.glob("checkpoints/*.claim"))
    monkeypatch.delenv("PAUSE")
    assert main(["--resume", str(begun)]) == 0
    assert same(begun, faultless)


def test_a_killed_process_is_named_and_any_number_goes_on(
    tmp_path: Path, begun: Path, faultless: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of the two is killed, then of two that go on the other, and three end the run."""
    monkeypatch.setenv("PAUSE", "3")
    for killed in (1, 0):
        with launched(tmp_path / str(killed), 2, "--resume", str(begun)) as processes:
            processes.until(lambda processes=processes, killed=killed: processes.at_work(killed, begun / "checkpoints"))
            processes.processes[killed].kill()
            processes.processes[killed].wait()  # as a launcher does at once
            codes = processes.codes()
            assert (codes[killed], codes[1 - killed]) == (-signal.SIGKILL, 75)
            assert f"Process {killed} of 2 left the run" in processes.said()[1 - killed]
    monkeypatch.delenv("PAUSE")
    with launched(tmp_path / "more", 3, "--resume", str(begun)) as processes:
        assert processes.codes() == [0] * 3, processes.said()
    assert same(begun, faultless)
