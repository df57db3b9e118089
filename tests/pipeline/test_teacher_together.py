"""The teacher of a run in several processes: who trains it, who says so, and what is left when one of them ends."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest
from safetensors import safe_open

from guard_plugins.artifacts.ledger import file_hash
from guard_plugins.cli.run import main
from tests.pipeline.launch import launched
from tests.pipeline.test_together import COMMON

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

OPTIONS = """--method sre2l --dataset digits --device cpu --ipc 1 --teacher.network convnet3-bn
--data.train-per-class 20 --teacher.epochs 6 --teacher.batch-size 40 --stop-after teacher --checkpoint-every 0.01"""
LONG = OPTIONS.split()
RESUMED = ["--stop-after", "teacher", "--checkpoint-every", "0.01"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the hash of the teacher that two processes train without a fault."""
    folder = tmp_path_factory.mktemp("whole")
    with launched(folder, 2, *LONG, "--output", str(folder / "run")) as processes:
        assert processes.codes() == [0, 0], processes.said()
        assert "2 processes train the teacher, each on a part of every batch" in processes.said()[0]
        assert processes.said()[1] == ""
    assert made_by(folder / "run") == 2
    return file_hash(folder / "run" / "teacher.safetensors")


def made_by(run: Path) -> int:
    with safe_open(run / "teacher.safetensors", framework="pt") as file:
        return int(json.loads(file.metadata()["teacher"]).get("processes", 1))


def saved(run: Path) -> list[Path]:
    return list(run.glob("checkpoints/teacher-*.safetensors"))


def ended(tmp_path: Path, kill: signal.Signals, rank: int) -> tuple[list[int], list[str]]:
    """Begin a run with two processes, and send one a signal once a state of the teacher is saved."""
    run = tmp_path / "run"
    with launched(tmp_path / "first", 2, *LONG, "--output", str(run)) as processes:
        processes.until(lambda: bool(saved(run)))
        processes.processes[rank].send_signal(kill)
        if kill == signal.SIGKILL:
            processes.processes[rank].wait()  # as a launcher does at once
        return processes.codes(), processes.said()


def test_a_signal_to_one_stops_all_and_the_same_number_ends_with_the_same_teacher(tmp_path: Path, whole: str) -> None:
    codes, said = ended(tmp_path, signal.SIGTERM, 1)
    assert codes == [128 + signal.SIGTERM] * 2, said
    assert "Stopped. Continue with: guard-run --resume" in said[0]
    assert len(saved(tmp_path / "run")) == 1
    with launched(tmp_path / "second", 2, "--resume", str(tmp_path / "run"), *RESUMED) as processes:
        assert processes.codes() == [0, 0], processes.said()
    assert file_hash(tmp_path / "run" / "teacher.safetensors") == whole


def test_a_killed_process_is_named_and_any_number_goes_on(tmp_path: Path, whole: str) -> None:
    """What one process ends is then valid for two, which train nothing."""
    codes, said = ended(tmp_path, signal.SIGKILL, 0)
    assert codes == [-signal.SIGKILL, 75]
    assert "Process 0 of 2 left the run" in said[1]
    for size in (3, 1):
        run = Path(shutil.copytree(tmp_path / "run", tmp_path / f"run-{size}"))
        again = ["--resume", str(run), *RESUMED]
        if size == 1:
            assert main(again) == 0
        else:
            with launched(tmp_path / str(size), size, *again) as processes:
                assert processes.codes() == [0] * size, processes.said()
        assert made_by(run) == size
        assert file_hash(run / "teacher.safetensors") != whole
    before = file_hash(run / "teacher.safetensors")
    with launched(tmp_path / "again", 2, *again) as processes:
        assert processes.codes() == [0, 0], processes.said()
        assert "train the teacher" not in processes.said()[0]
    assert file_hash(run / "teacher.safetensors") == before


def test_numbers_that_are_none_end_all_with_that_error(tmp_path: Path) -> None:
    """A rate that high makes the loss no number, on the parts of both."""
    with launched(tmp_path, 2, *LONG, "--teacher.lr", "1e30", "--output", str(tmp_path / "run")) as processes:
        assert processes.codes() == [1, 1], processes.said()
        assert "is no longer a finite number" in processes.said()[0]


def test_statistics_of_the_parts_are_refused_where_there_are_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    local = [*COMMON, "--output", str(run), "--teacher.batchnorm", "local", "--teacher.network", "convnet3"]
    assert main(local) == 2
    assert "one process has the whole of every batch" in capsys.readouterr().err
    with launched(tmp_path / "logs", 2, *local) as processes:
        assert processes.codes() == [2, 2]
        assert "the teacher's network has no BatchNorm" in processes.said()[0]
    assert not run.exists()


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_what_is_only_shown_is_shown_once(option: str, tmp_path: Path) -> None:
    with launched(tmp_path, 2, "--method", "sre2l", option) as processes:
        assert processes.codes() == [0, 0]
        first, other = processes.said()
    assert len(first) > 10
    assert other == ""
