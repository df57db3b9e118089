"""A run that is stopped anywhere goes on to exactly the same numbers."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from guard_plugins import Report
from guard_plugins.artifacts.lock import locked
from guard_plugins.cli.arguments import parse
from guard_plugins.errors import ArtifactError, ConfigError
from guard_plugins.pipeline.run import resume
from guard_plugins.runtime.keeping.checkpoints import Checkpoints
from guard_plugins.runtime.keeping.keeper import Keeper
from guard_plugins.runtime.signals import StoppedError
from tests.pipeline.conftest import numbers

TinyRun = Callable[..., tuple[Report, Path]]


def finish(folder: Path) -> Report:
    request = parse(["--resume", str(folder), "--checkpoint-every", "1000000000"])
    assert request.resume == folder
    return resume(folder, request.config)


@pytest.mark.parametrize(
    ("loop", "step"),
    [
        ("teacher", 3),
        pytest.param("teacher", 22, marks=pytest.mark.slow),
        pytest.param("recover/0", 2, marks=pytest.mark.slow),
        pytest.param("recover/0", 3, marks=pytest.mark.slow),
        pytest.param("student/0", 1, marks=pytest.mark.slow),
        pytest.param("student-hard/0", 2, marks=pytest.mark.slow),
    ],
)
def test_a_run_stopped_in_a_loop_ends_the_same(
    tiny_run: TinyRun, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loop: str, step: int
) -> None:
    original = Keeper.after

    def after(self: Keeper, name: str, done: int, state: object, *, last: bool) -> None:
        if (name, done) == (loop, step):
            os.kill(os.getpid(), signal.SIGTERM)
        original(self, name, done, state, last=last)  # type: ignore[arg-type]

    monkeypatch.setattr(Keeper, "after", after)
    with pytest.raises(StoppedError, match="Stopped by SIGTERM") as caught:
        tiny_run("sre2l", "stopped")
    assert caught.value.exit_code == 128 + signal.SIGTERM
    monkeypatch.undo()
    stopped = tmp_path / "stopped"
    assert not (stopped / "report.json").exists()
    finish(stopped)
    assert numbers(stopped) == numbers(whole)
    one, other = (load_file(folder / "distilled" / "distilled.safetensors") for folder in (whole, stopped))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not list(stopped.rglob("*.part"))
    assert not (stopped / "checkpoints").exists()
    told = [json.loads(line) for line in (stopped / "events.jsonl").read_text().splitlines()]
    timed = [(event["stage"], event["seconds"]) for event in told if event["event"] in ("stage ends", "stage stopped")]
    seconds = json.loads((stopped / "report.json").read_text())["seconds"]
    assert list(seconds) == list(json.loads((whole / "report.json").read_text())["seconds"])
    assert sum(seconds.values()) == pytest.approx(sum(spent for _, spent in timed), abs=0.01)
    assert len(timed) > len(seconds)


@pytest.mark.slow
def test_a_run_stopped_in_its_evaluation_ends_the_same(tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch) -> None:
    from guard_plugins.attacks.pgd import PGD

    _, whole = tiny_run("noise", "whole")
    original, calls = PGD.perturb, []

    def perturb(self: PGD, *args: object, **kwargs: object) -> object:
        calls.append(1)
        if len(calls) == 9:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(PGD, "perturb", perturb)
    with pytest.raises(StoppedError, match="Stopped by SIGINT") as caught:
        tiny_run("noise", "stopped")
    assert caught.value.exit_code == 130
    done = len(calls)
    finish(whole.parent / "stopped")
    assert numbers(whole.parent / "stopped") == numbers(whole)
    assert len(calls) > done


def test_a_finished_run_is_only_read(tiny_run: TinyRun) -> None:
    report, folder = tiny_run("noise", "run")
    before = (folder / "teacher.safetensors").stat().st_mtime_ns
    again = finish(folder)
    assert again.models == report.models
    assert (folder / "teacher.safetensors").stat().st_mtime_ns == before


def test_states_that_a_killed_process_left_in_a_finished_run_are_removed(tiny_run: TinyRun) -> None:
    _, folder = tiny_run("noise", "run")
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "student-0-33e9a428.safetensors").write_bytes(b"any")
    finish(folder)
    assert not (folder / "checkpoints").exists()


@pytest.mark.slow
def test_an_altered_file_is_noticed_and_its_stage_redone(tiny_run: TinyRun, capsys: pytest.CaptureFixture[str]) -> None:
    _, folder = tiny_run("noise", "run")
    expected = numbers(folder)
    (folder / "report.json").unlink()
    path = folder / "distilled" / "distilled.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    finish(folder)
    assert "distill is done again: distilled/distilled.safetensors was altered or truncated" in capsys.readouterr().err
    assert numbers(folder) == expected


@pytest.mark.slow
def test_changed_settings_redo_their_stage_and_say_so(tiny_run: TinyRun, capsys: pytest.CaptureFixture[str]) -> None:
    _, folder = tiny_run("sre2l", "run")
    (folder / "report.json").unlink()
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("iterations: 3", "iterations: 4"))
    finish(folder)
    err = capsys.readouterr().err
    assert "distill is done again: its settings or inputs changed" in err
    assert "teacher is done again" not in err


def test_a_second_process_is_kept_out(tiny_run: TinyRun) -> None:
    _, folder = tiny_run("noise", "run")
    with (
        locked(folder),
        pytest.raises(ConfigError, match="Another process is at work"),
        locked(folder),
    ):
        pytest.fail("the lock was taken twice")


def test_resume_takes_a_run_and_no_other_options(tiny_run: TinyRun, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="There is no run to resume in"):
        parse(["--resume", str(tmp_path)])
    (tmp_path / "config.yaml").write_text("method: noise\n")
    with pytest.raises(ConfigError, match="--ipc cannot be given with --resume"):
        parse(["--resume", str(tmp_path), "--ipc", "3"])


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, every=1.0)
    state: dict[Any, Any] = {"x": torch.ones(2), "n": 1, "groups": [{"lr": 0.1}], "none": None, 5: (1, 2)}
    checkpoints.save("loop/0", 3, lambda: state)
    assert checkpoints.load("loop/0") is not None
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ArtifactError, match=f"{path.name} is damaged"):
        checkpoints.load("loop/0")


def test_a_state_of_other_inputs_is_not_used(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, every=1.0)
    checkpoints.inputs = "one"
    checkpoints.save("loop", 3, dict)
    assert checkpoints.load("loop") == (3, {})
    checkpoints.inputs = "two"
    assert checkpoints.load("loop") is None


@pytest.mark.slow
def test_the_cost_of_checkpoints_is_told(tiny_run: TinyRun, capsys: pytest.CaptureFixture[str]) -> None:
    report, folder = tiny_run("noise", "run", checkpoint_every=1e-9)
    assert report.saves is not None
    assert report.hook is not None
    # One after every step of the teacher and the two students, and of every attack, probe and curvature measured.
    assert report.saves.count > report.hook.steps + 2 * 2
    assert report.saves.share == pytest.approx(report.saves.seconds / sum(report.seconds.values()), abs=1e-3)
    assert 0 < report.saves.share < 1
    told = f"checkpoints: {report.saves.count} saves took"
    assert told in (folder / "events.jsonl").read_text()
    assert told in (folder / "report.md").read_text()


def test_a_resumed_run_keeps_its_configuration_whatever_the_environment_says(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GUARD_RUN_EVALUATION__IMAGES", "7")
    monkeypatch.setenv("GUARD_RUN_METHOD", "cda")
    config = parse(["--resume", str(whole)]).config
    assert (config.method, config.evaluation.images) == ("sre2l", 20)


def test_images_are_distilled_again_where_the_network_they_match_changes(tiny_run: TinyRun) -> None:
    settings = {"match": {"iterations": 1, "outer": 1}, "evaluation": {"images": 5}}
    report, folder = tiny_run("dc", "run", **settings)
    config = parse(["--resume", str(folder)]).config
    again = resume(
        folder, config.model_copy(update={"teacher": config.teacher.model_copy(update={"activation": "silu"})})
    )
    said = (folder / "events.jsonl").read_text()
    assert "distill is done again: its settings or inputs changed" in said
    assert again.models.student != report.models.student
