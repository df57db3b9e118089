"""Students that match the teacher's features, against a loop with that loss written out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from guard_baselines.noise import Noise
from guard_plugins import configure
from guard_plugins.cli.eval_arguments import parse
from guard_plugins.config.layers import Layer
from guard_plugins.data.distilled import DistilledSet
from guard_plugins.errors import ConfigError
from guard_plugins.host.configure import resolve
from guard_plugins.networks.embedding import WithFeatures
from guard_plugins.networks.normalised import Normalised
from guard_plugins.pipeline.declared import fingerprinted
from guard_plugins.pipeline.features import require_same_features, said_of_features
from guard_plugins.pipeline.standalone.evaluate import evaluate
from guard_plugins.pipeline.students.under_hook import under_hook
from guard_plugins.runtime.task import Task
from guard_plugins.testing.tiny import tiny_task
from guard_plugins.training.recipes import recipe_of
from guard_plugins.training.student import student_loss, train_student
from guard_plugins.training.student_batches import OnlineBatches, online
from tests.pipeline.conftest import do_tiny_run, largest_gap

STAGE = "student/0"
WEIGHT, HOOK, H_RMS = 0.7, 2.0, 0.05


def a_task(*, weight: float, hook: float = 0.0) -> Task:
    fixed = {"network": "convnet3", "activation": "silu", "protocol": "dc", "epochs": 4, "batch_size": 8}
    task = tiny_task(Noise, settings={"student": fixed})
    options = {"feature_weight": weight, "guard_weight": hook, "guard_h_rms": H_RMS, "augment": "crop-flip"}
    student = task.config.student.model_copy(update={**options, "temperature": 0.5})
    return replace(task, config=task.config.model_copy(update={"student": student}))


def a_teacher(task: Task) -> Normalised:
    return task.network("convnet3", stage="teacher").eval().requires_grad_(False)


def some_batches(task: Task, *, soft: bool = True) -> OnlineBatches:
    generator = torch.Generator().manual_seed(1)
    distilled = DistilledSet(torch.rand(20, 1, 8, 8, generator=generator), torch.arange(10).repeat(2), None)
    return online(task, distilled, a_teacher(task) if soft else None)(STAGE)


def trained(task: Task, *, soft: bool = True) -> Normalised:
    with under_hook(task) as hooked:
        return train_student(hooked, some_batches(task, soft=soft), stage=STAGE)


def features_of(network: Normalised, images: torch.Tensor) -> torch.Tensor:
    """Return the output of all layers but the last, which is linear."""
    (last,) = (layer for layer in network.network.modules() if isinstance(layer, nn.Linear))
    kept: list[torch.Tensor] = []
    handle = last.register_forward_hook(lambda layer, given, result: kept.append(given[0]))
    network(images)
    handle.remove()
    return kept[0]


def loss_at(student: Normalised, teacher: Normalised, images: torch.Tensor, batch: Any, recipe: Any) -> torch.Tensor:
    """Return the loss of logits and features; the teacher is asked at the views themselves."""
    mine, theirs = features_of(student, images), features_of(teacher, batch.images)
    cosine = (mine * theirs).sum(1) / (mine.square().sum(1).sqrt() * theirs.square().sum(1).sqrt())
    return student_loss(student(images), batch, recipe) + WEIGHT * (1 - cosine).mean()


def twin_of(task: Task, *, hook: float) -> Normalised:
    batches, recipe, teacher = some_batches(task), recipe_of(task.config.student), a_teacher(task)
    twin = task.network("convnet3", "silu", stage=STAGE).train()
    sgd = torch.optim.SGD(twin.parameters(), recipe.lr, 0.9, weight_decay=recipe.weight_decay)
    for step in range(batches.total):
        task.seeds.reset(STAGE, step)
        sgd.param_groups[0]["lr"] = recipe.lr * (1 if step <= batches.total // 2 else 0.1)
        sgd.zero_grad()
        batch = batches.batch(step)
        x = batch.images.clone().requires_grad_()
        loss = loss_at(twin, teacher, x, batch, recipe)
        if hook:
            (gradient,) = torch.autograd.grad(loss, x, retain_graph=True)
            z = torch.stack([each / each.norm() * H_RMS * each.numel() ** 0.5 for each in gradient])
            there = loss_at(twin, teacher, batch.images + z, batch, recipe)
            loss = loss + hook * (there - loss).abs()
        loss.backward()
        sgd.step()
    return twin


@pytest.mark.parametrize("hook", [0.0, HOOK])
def test_the_features_are_in_the_students_objective(hook: float) -> None:
    found, twin = trained(a_task(weight=WEIGHT, hook=hook)), twin_of(a_task(weight=WEIGHT), hook=hook)
    assert largest_gap(found, twin) < 1e-6
    assert largest_gap(found, trained(a_task(weight=0.0, hook=hook))) > 3e-5


def test_students_on_hard_labels_match_nothing() -> None:
    assert some_batches(a_task(weight=WEIGHT), soft=False).batch(0).features is None
    assert some_batches(a_task(weight=0.0)).batch(0).features is None
    assert largest_gap(trained(a_task(weight=WEIGHT), soft=False), trained(a_task(weight=0.0), soft=False)) == 0.0


def test_logits_and_features_come_from_one_pass() -> None:
    task = a_task(weight=WEIGHT)
    teacher, images = a_teacher(task), torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    logits, features = WithFeatures(teacher)(images)
    assert torch.equal(logits, teacher(images))
    (last,) = (layer for layer in teacher.network.modules() if isinstance(layer, nn.Linear))
    assert torch.equal(F.linear(features, last.weight, last.bias), logits)
    assert not last._forward_pre_hooks


def test_features_of_another_number_are_refused_before_anything_is_trained() -> None:
    task = a_task(weight=WEIGHT)
    require_same_features(task, a_teacher(task))
    other = task.network("small-resnet", stage="teacher")
    with pytest.raises(ConfigError, match=r"cannot be compared with the teacher's") as error:
        require_same_features(task, other)
    assert "a student has 128 features, the teacher 64" in str(error.value)
    require_same_features(a_task(weight=0.0), other)
    require_same_features(task, None)


@pytest.mark.parametrize(
    ("method", "student", "why"),
    [
        ("dc", {}, "students ask no teacher"),
        ("random", {"labels": "stored"}, "stored labels hold no features"),
    ],
)
def test_what_cannot_match_features_is_refused(method: str, student: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=r"--student\.feature-weight") as error:
        configure(method, student={"feature_weight": 0.1, **student})
    assert why in str(error.value)


def test_reports_say_so_and_earlier_runs_go_on() -> None:
    assert said_of_features(a_task(weight=0.0).config) == []
    (line,) = said_of_features(a_task(weight=0.7).config)
    assert line.startswith("With --student.feature-weight 0.7 students on soft labels match the teacher's")
    assert "feature_weight" not in fingerprinted(configure("random"), {"student"})["student"]
    found = fingerprinted(configure("random", student={"feature_weight": 0.1}), {"student"})
    assert found["student"]["feature_weight"] == 0.1


def test_a_weight_in_a_file_that_a_stronger_setting_overrules_is_gone() -> None:
    """Then no report says that features were matched, and no comparison takes the run for one of its own."""
    stored = Layer("a file", {"student": {"feature_weight": 0.5}}, may_be_idle="yes")
    assert resolve("random", [stored]).student.feature_weight == 0.5
    assert resolve("dc", [stored]).student.feature_weight == 0.0
    given = Layer("command line", {"student": {"labels": "stored"}}, may_be_idle="no")
    found = resolve("random", [stored, given])
    assert (found.student.feature_weight, said_of_features(found)) == (0.0, [])


def test_a_run_says_so_and_refuses_other_features_before_it_has_a_folder(tmp_path: Path) -> None:
    report, folder = do_tiny_run(tmp_path / "run", "random", student={"feature_weight": 0.1, "epochs": 2})
    assert any("--student.feature-weight 0.1" in note for note in report.notes)
    other = {"network": "convnet3", "feature_weight": 0.1}
    with pytest.raises(ConfigError, match="cannot be compared with the teacher's"):
        do_tiny_run(tmp_path / "other", "random", student=other)
    assert not (tmp_path / "other").exists()
    command = ["--distilled", str(folder), "--teacher", str(folder), "--student.feature-weight=0.1"]
    request = parse([*command, "--student.epochs=1", "--student.network=convnet3", "--evaluation.gate=off"])
    with pytest.raises(ConfigError, match="cannot be compared with the teacher's"):
        evaluate(request)
    request = parse([*command, "--student.epochs=1", "--evaluation.gate=off", "--evaluation.images=20"])
    assert any("--student.feature-weight 0.1" in note for note in evaluate(request).notes)
