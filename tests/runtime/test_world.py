"""Commands that work in one process notice the others, whatever device they would use."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from guard_plugins.cli.run import main
from guard_plugins.errors import ConfigError
from guard_plugins.runtime.engine import Engine
from guard_plugins.runtime.sharing.world import LAUNCHERS, World, as_if_alone

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
@pytest.mark.parametrize(
    ("options", "command"),
    [(["--plan"], "guard-run --plan"), (["--seeds", "0,1"], "guard-run --seeds or --compare")],
)
def test_what_cannot_be_shared_is_refused_on_every_rank(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, rank: str,
    options: list[str], command: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main([*ONE_RUN, *options, "--output", str(tmp_path / "run")]) == 2
    assert f"{command} works in one process\n  seen: this is process {rank} of 2" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("rank", ["0", "1"])
def test_processes_that_cannot_meet_are_told_so_and_leave_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, rank: str
) -> None:
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", rank)
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert main([*ONE_RUN, "--output", str(tmp_path / "run")]) == 2
    finally:
        signal.signal(signal.SIGTERM, before)
    said = capsys.readouterr().err
    assert "The processes of the run cannot meet" in said
    assert "MASTER_ADDR" in said
    assert not list(tmp_path.iterdir())


def test_a_process_can_work_as_if_it_were_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert World.of().on_host == 1
    with as_if_alone():
        assert World.of() == World(0, 1)
        Engine("cpu")
    assert World.of() == World(1, 2)
