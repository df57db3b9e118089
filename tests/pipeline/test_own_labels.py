"""``labels = "own"``: students learn from the soft labels that a method returned, and from the settings it learned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from guard_plugins import configure
from guard_plugins.artifacts.evaluation import Evaluation
from guard_plugins.artifacts.folder import RunFolder
from guard_plugins.artifacts.sets.distilled import load_distilled, save_distilled
from guard_plugins.cli import eval as command
from guard_plugins.data.distilled import DistilledSet
from guard_plugins.errors import ConfigError, PluginError
from guard_plugins.host import PluginHost
from guard_plugins.pipeline.context import RunContext
from guard_plugins.pipeline.preparation import prepare
from guard_plugins.pipeline.runner import do_stages
from guard_plugins.pipeline.stages import STAGES, evaluation
from guard_plugins.runtime.engine import repeatable
from guard_plugins.runtime.signals import StopRequest
from guard_plugins.training.learned import said_of_learned, with_learned
from guard_plugins.training.recipes import recipe_of
from tests.host.conftest import Install, install
from tests.pipeline.conftest import do_tiny_run

__all__ = ["install"]

SOURCE = """
import torch
from pydantic import Field
from guard_plugins import DistilledSet, Method, MethodConfig, hookimpl


class Config(MethodConfig):
    scale: float = Field(1.0, description="factor on the logits")
    lr: float | None = Field(None, description="rate to return")
    steps: int | None = Field(None, description="steps to return")


class Own(Method):
    name, summary, Config = "own", "random images with labels of its own", Config
    guarded, uses_teacher, labels = (), False, "own"

    def distill(self, task, teacher):
        generator = task.seeds.generator("own")
        labels = torch.arange(task.classes).repeat(task.ipc)
        images = torch.rand((len(labels), *task.data.image_shape), generator=generator)
        logits = torch.randn((len(labels), task.classes), generator=generator) * self.config.scale
        return DistilledSet(images, labels, SOFT, self.config.lr, self.config.steps)


@hookimpl
def register_methods():
    return [Own]
"""


def students(folder: Path, method: str = "own", **settings: Any) -> tuple[RunContext, dict[str, Tensor]]:
    """Distil and train students, and return the run with the weights of the students of its own labels."""
    base: dict[str, Any] = {"data": {"train_per_class": 2, "test_per_class": 1}, "ipc": 1, "device": "cpu"}
    config = configure(method, **{**base, "student": {"network": "convnet3", "epochs": 2}, **settings})
    with repeatable():
        prepared = prepare(config, PluginHost(only=[method]))
        folder.mkdir()
        run = RunContext.start(prepared, RunFolder(folder), StopRequest())
        do_stages(run, [stage for stage in STAGES if stage.name in ("teacher", "distill", "relabel", "students")])
    return run, run.results.models["student"][0].state_dict()


def differ(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return any(not torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def own(install: Install) -> None:
    install("own", SOURCE.replace("SOFT", "logits"))


@pytest.mark.slow
@pytest.mark.usefixtures("own")
def test_labels_that_are_scaled_change_the_student_and_nothing_else(tmp_path: Path) -> None:
    once, first = students(tmp_path / "once")
    again, second = students(tmp_path / "again")
    scaled, third = students(tmp_path / "scaled", scale=100.0)
    assert not differ(first, second)
    assert differ(first, third)
    assert torch.equal(scaled.results.distilled.images, once.results.distilled.images)
    hard, other = (run.results.models["student_hard"][0].state_dict() for run in (once, scaled))
    assert not differ(hard, other)
    warm = students(tmp_path / "warm", student={"network": "convnet3", "epochs": 2, "temperature": 1.0})[1]
    assert differ(first, warm), "the recipe's temperature is used"
    stored = load_distilled(again.folder.distilled).soft_labels
    assert stored is not None
    assert torch.equal(stored * 100, load_distilled(scaled.folder.distilled).soft_labels)  # type: ignore[arg-type]


@pytest.mark.usefixtures("own")
def test_learned_settings_are_used_and_said(tmp_path: Path) -> None:
    run, weights = students(tmp_path / "run", lr=0.03, steps=7, student={"network": "convnet3", "batch_size": 4})
    assert run.given_of_students() == [], "the preset's 150 epochs are not the user's"
    returned = run.results.distilled
    assert (returned.student_lr, returned.student_steps) == (0.03, 7)
    assert load_distilled(run.folder.distilled).student_steps == 7
    learned = with_learned(run.task, returned, given=())
    recipe = recipe_of(learned.config.student)
    assert (recipe.lr, recipe.epochs) == (0.03, 4), "2 batches of 4 in 10 images: 4 passes hold 7 steps"
    said = "The students used what was learned with the images: a rate of 0.03 and 7 steps (4 epochs)."
    assert said_of_learned(run.task, returned, given=()) == [said]
    assert said_of_learned(run.task, replace(returned, student_lr=None, student_steps=None), given=()) == []
    by_hand = {"network": "convnet3", "batch_size": 4, "lr": 0.03, "epochs": 4}
    assert not differ(weights, students(tmp_path / "by-hand", student=by_hand)[1])


@pytest.mark.usefixtures("own")
def test_what_the_user_gives_has_precedence_over_what_was_learned_and_is_said(tmp_path: Path) -> None:
    student = {"network": "convnet3", "batch_size": 4, "lr": 0.1, "epochs": 1}
    run, weights = students(tmp_path / "run", lr=0.03, steps=7, student=student)
    given = run.given_of_students()
    assert given == ["lr", "epochs"]
    assert not differ(weights, students(tmp_path / "none", student=student)[1])
    assert said_of_learned(run.task, run.results.distilled, given=given) == [
        "--student.lr 0.1 was used in place of what was learned: a rate of 0.03.",
        "--student.epochs 1 was used in place of what was learned: 7 steps.",
    ]
    assert said_of_learned(run.task, run.results.distilled, given=["lr"])[0].endswith("images: 7 steps (4 epochs).")


@pytest.mark.parametrize("labels", ["own", "soft"])
def test_the_gate_asks_no_teacher_that_the_students_did_not_learn_from(
    labels: str, install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = SOURCE.replace("SOFT", "logits").replace('False, "own"', f'True, "{labels}"')
    install("own", source)
    run, _ = students(tmp_path / "run", teacher={"network": "convnet3", "epochs": 1})
    asked: dict[str, object] = {}
    monkeypatch.setattr(evaluation, "assess", lambda *args, name, teacher, **rest: asked.update({name: teacher}))
    evaluation.EvaluationStage().do(run)
    expected = run.results.teacher if labels == "soft" else None
    assert asked == {"teacher": None, "student": expected, "student-hard": None}


def test_own_labels_that_are_not_there_or_cannot_be_stored_are_refused(install: Install, tmp_path: Path) -> None:
    install("own", SOURCE.replace("SOFT", "None"))
    with pytest.raises(PluginError, match="the method says labels = 'own', but the set has no soft labels"):
        students(tmp_path / "run")
    with pytest.raises(ConfigError, match="The students of 'own' learn from own labels: there are no soft labels to"):
        students(tmp_path / "stored", student={"labels": "stored"})
    assert not (tmp_path / "stored").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("own")
def test_guard_eval_trains_the_run_s_students_with_what_was_learned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    preset = {"network": "convnet3", "batch_size": 4, "epochs": 150}
    settings: dict[str, Any] = {"student": preset, "evaluation": {"gate": "off"}}
    report, folder = do_tiny_run(tmp_path / "run", "own", lr=0.03, steps=40, **settings)
    said = "The students used what was learned with the images: a rate of 0.03 and 40 steps (20 epochs)."
    assert said in report.notes
    assert report.learned_from == "own"
    output = tmp_path / "x.json"
    assert command.main(["--set", str(folder), "--evaluation.gate=off", f"--output={output}"]) == 0
    found = Evaluation.model_validate_json(output.read_text())
    assert said in found.notes
    student = report.models.student
    assert found.model.clean == student.clean
    assert [entry.accuracy for entry in found.model.robust] == [entry.accuracy for entry in student.robust]
    assert found.curvature == report.curvature["student"], "floats that other weights would change"
    assert f"note: {said}" in capsys.readouterr().err
    assert found.notes[-1] == "Students learned from one soft label per image."
    few = [f"--output={output}", "--evaluation.gate=off", "--evaluation.protocol=fgsm", "--evaluation.images=5"]
    assert command.main(["--distilled", str(folder), "--student.network=convnet3", "--student.epochs=1", *few]) == 0
    notes = Evaluation.model_validate_json(output.read_text()).notes
    assert "The students used what was learned with the images: a rate of 0.03." in notes
    assert "--student.epochs 1 was used in place of what was learned: 40 steps." in notes


BOTH = SOURCE.replace('False, "own"', 'True, "soft"').replace("guarded,", "returns_soft_labels, guarded,", 1)
BOTH = BOTH.replace("labels = (), True", "labels = True, (), True")
ASKED = {"network": "convnet3", "epochs": 2, "labels": "own"}


def test_own_labels_can_be_asked_of_a_method_that_returns_them(install: Install, tmp_path: Path) -> None:
    install("own", BOTH.replace("SOFT", "logits"))
    teacher = {"network": "convnet3", "epochs": 1}
    run, asked = students(tmp_path / "asked", teacher=teacher, student=ASKED, steps=7)
    assert run.labels == "own"
    assert run.results.stored is None
    assert said_of_learned(run.task, run.results.distilled, given=()) != []
    assert differ(asked, students(tmp_path / "online", teacher=teacher)[1])
    assert differ(asked, students(tmp_path / "scaled", teacher=teacher, student=ASKED, scale=100.0)[1])
    install("other", SOURCE.replace("SOFT", "logits").replace('Config = "own"', 'Config = "other"'))
    assert not differ(asked, students(tmp_path / "other", "other")[1]), (
        "as the students of a method with labels = 'own'"
    )


def test_own_labels_of_a_method_that_returns_none_are_refused(install: Install, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'random' returns no soft labels with its images \(--student.labels own\)"):
        do_tiny_run(tmp_path / "run", "random", student={"labels": "own"})
    assert not (tmp_path / "run").exists()
    install("own", BOTH.replace("SOFT", "None"))
    with pytest.raises(PluginError, match="the method says returns_soft_labels = True, but the set has no soft labels"):
        students(tmp_path / "none", teacher={"network": "convnet3", "epochs": 1}, student=ASKED)
    assert not (tmp_path / "none" / "distilled").exists()


@pytest.mark.parametrize("labels", ["own", "online"])
def test_a_temperature_does_something_with_own_labels_only_where_the_method_s_are_hard(
    labels: str, install: Install
) -> None:
    install("own", BOTH.replace('"soft"', '"hard"').replace("SOFT", "logits"))
    student = {"labels": labels, "temperature": 3.0}
    if labels == "own":
        assert configure("own", student=student).student.temperature == 3.0
    else:
        with pytest.raises(ConfigError, match=r"--student.temperature would do nothing"):
            configure("own", student=student)


def test_guard_eval_refuses_own_labels_that_are_not_there_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = DistilledSet(torch.rand(10, 1, 8, 8), torch.arange(10))
    save_distilled(tmp_path / "set", images, "0123456789")
    (tmp_path / "out").mkdir()
    arguments = [
        "--distilled",
        str(tmp_path / "set"),
        "--student.labels=own",
        f"--output={tmp_path / 'out' / 'x.json'}",
    ]
    assert command.main(arguments) == 2
    assert "comes with no soft labels (--student.labels)" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []
    assert command.main([*arguments, "--teacher=net.safetensors"]) == 2
    assert "--student.labels own and --teacher exclude each other" in capsys.readouterr().err


def test_probabilities_become_the_logits_whose_softmax_they_are(install: Install, tmp_path: Path) -> None:
    install("own", SOURCE.replace("SOFT", "logits"))
    install("sure", SOURCE.replace("SOFT", "logits.softmax(1)").replace('Config = "own"', 'Config = "sure"'))
    student = {"network": "convnet3", "epochs": 2, "temperature": 1.0}
    logits, _ = students(tmp_path / "logits", student=student)
    chances, _ = students(tmp_path / "chances", "sure", student=student)
    expected, found = logits.results.distilled.soft_labels, chances.results.distilled.soft_labels
    stored = load_distilled(chances.folder.distilled).soft_labels
    assert expected is not None
    assert found is not None
    assert stored is not None
    assert torch.equal(found, stored)
    assert torch.allclose(found, expected.log_softmax(1), atol=1e-5)
    assert torch.allclose(found.exp().sum(1), torch.ones(10))
