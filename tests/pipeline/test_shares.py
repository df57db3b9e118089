"""Processes that share a stage's items leave what one process leaves, bit by bit."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from guard_plugins.cli.run import main
from guard_plugins.runtime.sharing.claims import claimed
from tests.pipeline.conftest import numbers

OPTIONS = """--method sre2l --dataset digits --device cpu --ipc 2 --teacher.epochs 1 --recover.iterations 3
--recover.batch 5 --student.epochs 2 --student.batch-size 10 --student.labels stored --evaluation.images 20"""
TINY = OPTIONS.split()


def hashes(folder: Path) -> dict[str, str]:
    """Return the hashes of teacher, set and labels."""
    paths = sorted(path for ending in ("safetensors", "png", "jsonl") for path in folder.rglob(f"*.{ending}"))
    kept = [path for path in paths if path.name not in ("events.jsonl", "figures.safetensors")]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in kept}


def shares(folder: Path, stage: str, of: int) -> None:
    for number in reversed(range(of)):
        assert main(["--resume", str(folder), "--shard", f"{number}/{of}", "--stage", stage]) == 0


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone") / "run"
    assert main([*TINY, "--output", str(folder)]) == 0
    return folder


@pytest.mark.slow
def test_shares_leave_what_one_process_leaves(alone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    of = 3
    folder = tmp_path / "run"
    go_on = ["--resume", str(folder)]
    assert main([*TINY, "--output", str(folder), "--stop-after", "teacher"]) == 0
    assert not (folder / "distilled").exists()
    shares(folder, "distill", of)
    assert "all items of the stage are finished" in capsys.readouterr().out
    assert len(list(folder.glob("checkpoints/item-recover-*.safetensors"))) == 4
    assert main([*go_on, "--stop-after", "distill"]) == 0
    shares(folder, "relabel", of)
    assert main([*go_on, "--stop-after", "students"]) == 0
    shares(folder, "evaluate", of)
    assert len(list(folder.glob("checkpoints/item-attack-*.safetensors"))) == 3 * 7
    assert main(go_on) == 0
    assert hashes(folder) == hashes(alone)
    assert numbers(folder) == numbers(alone)
    assert not (folder / "checkpoints").exists()


@pytest.mark.slow
def test_shares_work_at_the_same_time_and_the_run_waits_for_them(tmp_path: Path, alone: Path) -> None:
    folder = tmp_path / "run"
    assert main([*TINY, "--output", str(folder), "--stop-after", "teacher"]) == 0
    command = [sys.executable, "-m", "guard_plugins.cli.run", "--resume", str(folder), "--stage", "distill", "--shard"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    both = [subprocess.Popen([*command, f"{number}/2"], env=environment) for number in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert main(["--resume", str(folder)]) == 0
    assert hashes(folder) == hashes(alone)


def test_a_share_says_what_is_missing_and_resuming_makes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    assert main([*TINY, "--output", str(folder), "--stop-after", "teacher"]) == 0
    capsys.readouterr()
    assert main(["--resume", str(folder), "--shard", "1/2", "--stage", "distill"]) == 0
    assert "2 items made; not finished yet: 2 (recover/0, recover/2)" in capsys.readouterr().out
    with claimed(folder / "checkpoints" / "recover-2-0000.claim"):
        assert main(["--resume", str(folder)]) == 2
        assert "Shares of the run" in capsys.readouterr().err
    assert main(["--resume", str(folder), "--stop-after", "distill"]) == 0
    assert "2 of 4 items are finished; missing: 2 (recover/0, recover/2)" in capsys.readouterr().err
    assert main(["--resume", str(folder), "--shard", "0/2", "--stage", "evaluate"]) == 2
    assert "The stage relabel of the run" in capsys.readouterr().err


def test_a_stage_without_items_is_not_shared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    options = f"--method noise --dataset digits --device cpu --ipc 1 --teacher.epochs 1 --output {folder}"
    assert main([*options.split(), "--stop-after", "teacher"]) == 0
    assert main(["--resume", str(folder), "--shard", "0/2", "--stage", "distill"]) == 2
    assert "does not come in items" in capsys.readouterr().err
    assert main(["--resume", str(folder), "--shard", "0/2", "--stage", "relabel"]) == 2
    assert "not finished, so later ones cannot be shared" in capsys.readouterr().err
    assert not (folder / "distilled").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([*TINY, "--shard", "0/2"], "--shard and --stage work on a run that has begun"),
        (["--resume", "RUN", "--shard", "0/2"], "--shard needs --stage"),
        (["--resume", "RUN", "--shard", "0/2", "--stage", "teacher"], "choose from 'distill', 'relabel', 'evaluate'"),
        (["--resume", "RUN", "--shard", "2/2", "--stage", "distill"], "--shard takes i/n"),
        (["--resume", "RUN", "--stage", "distill"], "--stage is for shares and would do nothing"),
        (["--resume", "RUN", "--plan"], "--plan is for a run that has not begun"),
    ],
)
def test_shares_of_nothing_are_refused(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*TINY, "--print-config"]) == 0
    (tmp_path / "config.yaml").write_text(capsys.readouterr().out)
    assert main([str(tmp_path) if word == "RUN" else word for word in options]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]
