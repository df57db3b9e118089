"""Commands that work in one process notice the others, whatever device they would use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from guard_plugins.cli.run import main
from guard_plugins.errors import ConfigError
from guard_plugins.runtime.engine import Engine
from guard_plugins.runtime.world import LAUNCHERS, World

ONE_RUN = ["--method", "random", "--dataset", "digits", "--ipc", "1", "--student.epochs", "1"]


@pytest.mark.parametrize(("rank", "size"), LAUNCHERS)
def test_every_launcher_is_heard(rank: str, size: str) -> None:
    assert World.of({rank: "3", size: "8"}) == World(3, 8)
    assert World.of({size: "1"}) == World.of({}) == World(0, 1)


@pytest.mark.parametrize("environment", [{"RANK": "two"}, {"RANK": "2"}, {"RANK": "-1"}])
def test_an_environment_that_makes_no_sense_is_an_error(environment: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="which of how many") as caught:
        World.of({**environment, "WORLD_SIZE": "2"})
    assert caught.value.seen == f"RANK={environment['RANK']}, WORLD_SIZE=2"


def test_no_engine_starts_in_one_of_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="works in one process") as caught:
        Engine("auto")
    assert "process 1 of 2" in caught.value.seen


@pytest.mark.parametrize("rank", ["0", "1"])
def test_guard_run_refuses_on_every_rank_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, rank: str
) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main([*ONE_RUN, "--output", str(tmp_path / "run")]) == 2
    assert f"guard-run works in one process\n  seen: this is process {rank} of 2" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_torchrun_itself_is_refused(tmp_path: Path) -> None:
    """Without a GPU, Accelerate says of each of these processes that it is the only one."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    run = [*command, "guard_plugins.cli.run", *ONE_RUN, "--output", str(tmp_path / "run")]
    done = subprocess.run(run, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
    assert done.returncode != 0
    assert "exitcode  : 2" in done.stderr
    assert "guard-run works in one process" in done.stderr
    assert not list(tmp_path.iterdir())
