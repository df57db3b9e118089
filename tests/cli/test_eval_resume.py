"""guard-eval with --output goes on where it was stopped or killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from guard_plugins.artifacts.evaluation import Evaluation
from guard_plugins.artifacts.lock import locked
from guard_plugins.attacks.fgsm import FGSM
from guard_plugins.cli import eval as command
from guard_plugins.evaluation import measure
from guard_plugins.runtime.keeping.checkpoints import Checkpoints
from guard_plugins.training import student
from tests.pipeline.conftest import do_tiny_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return do_tiny_run(tmp_path_factory.mktemp("eval") / "run", "random")[1]


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the commands of a test do: a radius for every attack run, 'step' for every step of a student."""
    done: list[Any] = []
    monkeypatch.setattr(Checkpoints, "due", True)
    monkeypatch.setattr(measure, "attack_accuracy", noted(measure.attack_accuracy, done, lambda keys: keys["eps"]))
    monkeypatch.setattr(student, "student_loss", noted(student.student_loss, done, lambda keys: "step"))
    return done


def noted(function: Callable[..., Any], done: list[Any], what: Callable[[Any], Any]) -> Callable[..., Any]:
    def wrapped(*arguments: Any, **keys: Any) -> Any:
        result = function(*arguments, **keys)
        done.append(what(keys))
        return result

    return wrapped


def students(run: Path, output: Path, *more: str) -> list[str]:
    options = [
        "--student.epochs",
        "6",
        "--evaluation.protocol",
        "fgsm",
        "--evaluation.eps",
        "1",
        "2",
        "4",
        "--evaluation.images",
        "20",
        *more,
    ]
    return ["--distilled", str(run), *options, "--output", str(output)]


def found(output: Path) -> Evaluation:
    return Evaluation.model_validate_json(output.read_text()).model_copy(update={"seconds": 0})


def dying(monkeypatch: pytest.MonkeyPatch, work: list[Any], end: Callable[[], object], *, after: int) -> None:
    """Let ``end`` happen when ``after`` pieces of work are done."""

    class Dying(list[Any]):
        def append(self, entry: Any) -> None:
            work.append(entry)
            if len(work) == after:
                end()

    counted = Dying()
    monkeypatch.setattr(measure, "attack_accuracy", noted(measure.attack_accuracy, counted, lambda keys: None))
    monkeypatch.setattr(student, "student_loss", noted(student.student_loss, counted, lambda keys: None))


def killed() -> None:
    raise SystemError("killed")


@pytest.mark.slow
def test_an_evaluation_goes_on_where_it_was_killed_and_finds_the_same(
    run: Path, tmp_path: Path, work: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command.main(students(run, tmp_path / "whole.json")) == 0
    whole = list(work)
    steps = whole.count("step")
    assert whole == ["step"] * steps + [1 / 255, 2 / 255, 4 / 255]
    assert not (tmp_path / "whole.unfinished").exists()
    for after in (steps // 2, steps + 2):
        work.clear()
        output = tmp_path / f"killed-{after}.json"
        with monkeypatch.context() as patch:
            dying(patch, [], killed, after=after)
            with pytest.raises(SystemError):
                command.main(students(run, output))
        assert not output.exists()
        work.clear()
        assert command.main(students(run, output)) == 0
        # The piece it died in had not been recorded, so it is done again.
        assert work == whole[after - 1 :]
        assert found(output) == found(tmp_path / "whole.json")
        assert not output.with_suffix(".unfinished").exists()


@pytest.mark.slow
def test_a_long_attack_goes_on_at_its_batch(
    run: Path, tmp_path: Path, work: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    perturb, output = FGSM.perturb, tmp_path / "x.json"

    def counted(*arguments: Any, **keys: Any) -> Any:
        result = perturb(*arguments, **keys)
        batches.append(keys["eps"])
        return result

    batches: list[float] = []
    monkeypatch.setattr(FGSM, "perturb", counted)
    small = ["--evaluation.batch-size", "2"]
    assert command.main(students(run, tmp_path / "whole.json", *small)) == 0
    whole = list(batches)
    assert whole.count(2 / 255) > 1
    with monkeypatch.context() as patch:
        dying = whole.count(1 / 255) + 2
        patch.setattr(FGSM, "perturb", lambda *a, **k: killed() if len(batches) == dying else counted(*a, **k))
        batches.clear()
        with pytest.raises(SystemError):
            command.main(students(run, output, *small))
    batches.clear()
    assert command.main(students(run, output, *small)) == 0
    assert batches == whole[dying:]
    assert found(output) == found(tmp_path / "whole.json")


def test_another_command_is_refused_and_nothing_is_lost(
    run: Path, tmp_path: Path, work: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "x.json"
    state = output.with_suffix(".unfinished")
    with monkeypatch.context() as patch:
        dying(patch, [], killed, after=4)
        with pytest.raises(SystemError):
            command.main(students(run, output))
    (state / "notes.txt").write_text("not ours")
    for other in (
        students(run, output, "--seed", "1"),
        students(run, output.with_suffix(".html"), "--evaluation.images", "10"),
    ):
        capsys.readouterr()
        assert command.main(other) == 2
        message = capsys.readouterr().err
        assert f"{state} holds the state of another unfinished evaluation (--output)" in message
        assert "name another --output" in message
    work.clear()
    assert command.main(students(run, output)) == 0
    assert f"going on with the evaluation in {state}" in capsys.readouterr().err
    assert work.count("step") < 6
    assert [path.name for path in state.iterdir()] == ["notes.txt"]


def test_the_output_may_lie_in_the_run_that_is_evaluated(
    run: Path, work: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = run / "inside.json"
    arguments = [*students(run, output), "--teacher", str(run)]
    with monkeypatch.context() as patch:
        dying(patch, [], killed, after=4)
        with pytest.raises(SystemError):
            command.main(arguments)
    work.clear()
    assert command.main(arguments) == 0
    assert work.count("step") == 3
    assert not output.with_suffix(".unfinished").exists()


def test_a_signal_stops_it_at_a_safe_point(
    run: Path, tmp_path: Path, work: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "x.json"
    with monkeypatch.context() as patch:
        dying(patch, [], lambda: os.kill(os.getpid(), signal.SIGTERM), after=3)
        assert command.main(students(run, output)) == 128 + signal.SIGTERM
    message = capsys.readouterr().err
    assert "Stopped. Continue with the same command." in message
    work.clear()
    assert command.main(students(run, output)) == 0
    assert work.count("step") > 0
    first = work.count("step")
    work.clear()
    assert command.main(students(run, tmp_path / "whole.json")) == 0
    assert first == work.count("step") - 3
    assert found(output) == found(tmp_path / "whole.json")


def test_one_process_at_a_time_and_nothing_left_of_bad_input(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "x.json"
    state = output.with_suffix(".unfinished")
    assert command.main(["--distilled", str(tmp_path / "missing"), "--output", str(output)]) == 2
    assert not state.exists()
    state.mkdir()
    capsys.readouterr()
    with locked(state):
        assert command.main(students(run, output)) == 2
    assert f"Another process is at work in {state}" in capsys.readouterr().err
