"""Students under the curvature hook, against a loop with its term written out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from guard_baselines.noise import Noise
from guard_plugins import configure
from guard_plugins.artifacts.teacher import TeacherCard
from guard_plugins.data.distilled import DistilledSet
from guard_plugins.networks.normalised import Normalised
from guard_plugins.pipeline.declared import fingerprinted
from guard_plugins.pipeline.standalone.students import _with_step
from guard_plugins.pipeline.students.under_hook import said_of_hook, step_of_students, under_hook
from guard_plugins.runtime.keeping.checkpoints import Checkpoints
from guard_plugins.runtime.keeping.keeper import Keeper
from guard_plugins.runtime.signals import StoppedError, StopRequest
from guard_plugins.runtime.task import Task
from guard_plugins.testing.tiny import tiny_task
from guard_plugins.training.recipes import recipe_of
from guard_plugins.training.student import student_loss, train_student
from guard_plugins.training.student_batches import StudentBatches, online
from tests.pipeline.conftest import do_tiny_run, largest_gap

STAGE = "student/0"
H_RMS, WEIGHT = 0.05, 2.0
"""The activation is smooth, since rounding alone may take a value over the kink of a ReLU."""


def a_task(*, weight: float) -> Task:
    fixed = {"network": "convnet3", "activation": "silu", "protocol": "dc", "epochs": 4, "batch_size": 8}
    task = tiny_task(Noise, settings={"student": fixed})
    options = {"guard_weight": weight, "guard_h_rms": H_RMS, "augment": "crop-flip", "temperature": 0.5}
    student = task.config.student.model_copy(update=options)
    return replace(task, config=task.config.model_copy(update={"student": student}))


def some_batches(task: Task, *, soft: bool) -> StudentBatches:
    generator = torch.Generator().manual_seed(1)
    distilled = DistilledSet(torch.rand(20, 1, 8, 8, generator=generator), torch.arange(10).repeat(2), None)
    teacher = task.network("convnet3", stage="teacher").eval().requires_grad_(False) if soft else None
    return online(task, distilled, teacher)(STAGE)


def trained(task: Task, *, soft: bool) -> Normalised:
    with under_hook(task) as hooked:
        return train_student(hooked, some_batches(task, soft=soft), stage=STAGE)


def objective(student: nn.Module, batch: Any, recipe: Any) -> torch.Tensor:
    """Return the loss and |loss(x + z) - loss(x)|, with z along the gradient of every image, H_RMS long per pixel."""
    x = batch.images.clone().requires_grad_()
    here = student_loss(student(x), batch, recipe)
    (gradient,) = torch.autograd.grad(here, x, retain_graph=True)
    z = torch.stack([each / each.norm() * H_RMS * each.numel() ** 0.5 for each in gradient])
    there = student_loss(student(batch.images + z), batch, recipe)
    return here + WEIGHT * (there - here).abs()


@pytest.mark.parametrize("soft", [True, False])
def test_the_term_is_in_the_students_objective(soft: bool) -> None:
    task = a_task(weight=WEIGHT)
    found = trained(task, soft=soft)
    batches, recipe = some_batches(task, soft=soft), recipe_of(task.config.student)
    twin = task.network("convnet3", "silu", stage=STAGE).train()
    sgd = torch.optim.SGD(twin.parameters(), recipe.lr, 0.9, weight_decay=recipe.weight_decay)
    for step in range(batches.total):
        task.seeds.reset(STAGE, step)
        sgd.param_groups[0]["lr"] = recipe.lr * (1 if step <= batches.total // 2 else 0.1)
        sgd.zero_grad()
        objective(twin, batches.batch(step), recipe).backward()
        sgd.step()
    plain = trained(a_task(weight=0.0), soft=soft)
    assert largest_gap(found, twin) < 1e-6
    assert largest_gap(found, plain) > 3e-5


def test_a_student_stopped_anywhere_ends_the_same(tmp_path: Path) -> None:
    task = a_task(weight=WEIGHT)
    whole = trained(task, soft=True)
    total, found = some_batches(task, soft=True).total, None
    for stop_after in (1, 3, total):
        checkpoints = Checkpoints(tmp_path / str(stop_after), every=1e9)
        found = _stopped_and_resumed(task, checkpoints, stop_after)
        assert largest_gap(found, whole) == 0.0, stop_after


def _stopped_and_resumed(task: Task, checkpoints: Checkpoints, stop_after: int) -> Normalised:
    class After(StopRequest):
        calls = 0

        @property
        def asked(self) -> bool:
            self.calls += 1
            if self.calls == stop_after:
                self.number = 15
            return super().asked

    stopped = replace(task, keeper=Keeper(checkpoints, After()))
    with pytest.raises(StoppedError):
        trained(stopped, soft=True)
    resumed = replace(task, keeper=Keeper(checkpoints))
    return trained(resumed, soft=True)


def test_reports_say_so() -> None:
    assert said_of_hook(a_task(weight=0.0).config) == []
    (line,) = said_of_hook(a_task(weight=2.0).config)
    assert line.startswith("With --student.guard-weight 2 students are trained under the curvature hook, too (h_rms = ")
    assert f"{255 * H_RMS:.3g}/255" in line


def test_a_run_of_before_goes_on() -> None:
    """Options that came later and are left alone are in no fingerprint."""
    found = fingerprinted(configure("random"), {"teacher", "student"})
    assert not {"label_smoothing", "ema"} & found["teacher"].keys()
    assert not {"guard_weight", "guard_h_rms"} & found["student"].keys()
    options = {"student": {"guard_weight": 1.0}, "teacher": {"ema": 0.9}}
    found = fingerprinted(configure("random", **options), {"teacher", "student"})
    assert (found["teacher"]["ema"], found["student"]["guard_weight"]) == (0.9, 1.0)


def test_the_step_is_that_of_the_teacher_where_none_is_given() -> None:
    def of(guard: dict[str, Any] | None, **student: Any) -> float | None:
        task = a_task(weight=1.0)
        settings = task.config.student.model_copy(update={"guard_h_rms": None, **student})
        task = replace(task, config=task.config.model_copy(update={"student": settings}))
        shape = task.data.image_shape
        card = TeacherCard(network="convnet3", activation="relu", image_shape=shape, classes=("a", "b"), guard=guard)
        return step_of_students(_with_step(task, card).config)

    preset = a_task(weight=1.0).config.guard.h_rms
    assert of({"h": None, "h_rms": 0.02}) == 0.02
    assert of({"h": 0.8, "h_rms": None}) == pytest.approx(0.1)  # over 64 pixels
    assert of({"h": None, "h_rms": 0.02}, guard_h_rms=0.5) == 0.5
    assert of(None) == preset
    assert of({"h": None, "h_rms": 0.02}, guard_weight=0.0) is None


@pytest.mark.slow
def test_the_gate_knows_students_that_were_trained_under_the_hook(tmp_path: Path) -> None:
    step = {"guard_weight": 1.0, "guard_h_rms": 0.03}
    report, _ = do_tiny_run(tmp_path / "run", "random", student=step)
    for kind in ("student", "student_hard"):
        items = {item.name: item for item in report.gate[kind]}
        assert items["h large enough to matter"].verdict != "not run"
        assert items["transfer weaker than white-box"].verdict == "not run"  # no network is without the hook
        curvature = report.curvature[kind]
        assert curvature is not None
        assert curvature.h == pytest.approx(0.03 * 8)
    assert report.curvature["teacher"].h != report.curvature["student"].h
