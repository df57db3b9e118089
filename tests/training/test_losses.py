"""The losses of recipes beside the divergence, and the mean of the weights, against plain loops."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from guard_baselines.noise import Noise
from guard_plugins.data.distilled import DistilledSet
from guard_plugins.labels.relabel import STAGE, relabel
from guard_plugins.labels.store import StoredLabels
from guard_plugins.runtime.keeping.checkpoints import Checkpoints
from guard_plugins.runtime.keeping.keeper import Keeper
from guard_plugins.runtime.signals import StoppedError, StopRequest
from guard_plugins.runtime.task import Task
from guard_plugins.testing.tiny import tiny_task
from guard_plugins.training.recipes import GIFT, ONE_CYCLE, Recipe, StudentRecipe, recipe_of
from guard_plugins.training.schedules import late_steps
from guard_plugins.training.student import student_loss, train_student
from guard_plugins.training.student_batches import FixedLabelBatches, StudentBatch, online

RECIPE = Recipe(
    epochs=4, batch_size=7, optimizer="sgd", lr=0.05, weight_decay=0.0, schedule="late-steps", loss="mse", hard=0.3,
    ema=0.8, cutmix=1.0, augment="crop-flip",
)  # fmt: skip


class Mine(StudentRecipe):
    name, summary, recipe = "mine", "of this test", RECIPE


def a_task(**student: Any) -> Task:
    task = tiny_task(Noise, settings={"student": {"network": "convnet3", "epochs": None}})
    settings = task.config.student.model_copy(update={"protocol": "mine", **student})
    return replace(task, config=task.config.model_copy(update={"student": settings}), recipes={"mine": Mine})


def a_set(*, soft: bool = False) -> DistilledSet:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(20, 10, generator=generator) if soft else None
    return DistilledSet(torch.rand(20, 1, 8, 8, generator=generator), torch.arange(10).repeat(2), logits)


@pytest.mark.parametrize("hard", [0.0, 0.1])
def test_the_cosine_is_that_to_the_refined_label_of_every_image(hard: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits, targets = (torch.randn(5, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    classes = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0.25, 0.75], [0.5, 0.5, 0], [0, 0, 1]], dtype=torch.float64)
    expected = 0.0
    for own, wanted, share in zip(logits.tolist(), targets.tolist(), classes.tolist(), strict=True):
        smoothed = [0.9 * c + 0.05 * (1 - c) for c in share]  # a tenth of a class goes to the two others
        refined = [
            w / math.hypot(*wanted) + hard * s / math.hypot(*smoothed) for w, s in zip(wanted, smoothed, strict=True)
        ]
        inner = sum(a * b for a, b in zip(own, refined, strict=True))
        expected += (1 - inner / math.hypot(*own) / math.hypot(*refined)) / 5
    recipe = replace(RECIPE, loss="cosine", hard=hard)
    found = student_loss(logits, StudentBatch(logits, targets, True, classes if hard else None), recipe)
    assert float(found) == pytest.approx(expected, abs=1e-12)
    longer = student_loss(7 * logits, StudentBatch(logits, 3 * targets, True, classes if hard else None), recipe)
    assert float(longer) == pytest.approx(expected, abs=1e-12)


def test_gift_is_the_default_with_its_own_loss() -> None:
    assert replace(GIFT, loss="kl", hard=0.0) == ONE_CYCLE
    task = a_task()
    settings = task.config.student.model_copy(update={"protocol": "gift", "epochs": 8, "cutmix": 1.0, "mixup": None})
    task = replace(task, config=task.config.model_copy(update={"student": settings}))
    data = a_set()
    teacher = task.network("convnet3", stage="teacher").eval()
    batches = online(task, data, teacher)("student/0")
    before = student_loss(task.network(stage="student/0")(batches.batch(0).images), batches.batch(0), GIFT)
    student = train_student(task, batches, stage="student/0")
    with torch.no_grad():
        after = student_loss(student(batches.batch(0).images), batches.batch(0), GIFT)
    assert float(after) < float(before.detach())


def test_the_loss_is_the_mean_square_and_a_share_of_the_cross_entropy() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, targets = (torch.randn(5, 3, generator=generator) for _ in range(2))
    classes = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0.25, 0.75], [0.5, 0.5, 0], [0, 0, 1]])
    square = entropy = 0.0
    for own, wanted, share in zip(logits.tolist(), targets.tolist(), classes.tolist(), strict=True):
        log_sum = math.log(sum(math.exp(x) for x in own))
        for k in range(3):
            square += (own[k] - wanted[k]) ** 2 / 15
            entropy -= share[k] * (own[k] - log_sum) / 5
    found = student_loss(logits, StudentBatch(logits, targets, True, classes), RECIPE)
    assert float(found) == pytest.approx(square + 0.3 * entropy, rel=1e-5)
    assert float(student_loss(logits, StudentBatch(logits, classes, False), RECIPE)) == pytest.approx(entropy, rel=1e-5)


def test_the_student_ends_with_the_mean_of_its_weights() -> None:
    task, distilled = a_task(), a_set(soft=True)
    found = train_student(task, FixedLabelBatches(task, distilled, stage="student/0"), stage="student/0")
    twin = task.network("convnet3", stage="student/0").train()
    batches, sgd = FixedLabelBatches(task, distilled, stage="student/0"), torch.optim.SGD(twin.parameters(), 0.05, 0.9)
    mean = {name: value.detach().double() for name, value in twin.named_parameters()}
    for step in range(8):
        task.seeds.reset("student/0", step)
        batch = batches.batch(step)
        sgd.param_groups[0]["lr"] = 0.05 if step < 7 else 0.025  # of 8 steps, 80 % lie before the last
        sgd.zero_grad()
        student_loss(twin(batch.images), batch, RECIPE).backward()
        sgd.step()
        for name, value in twin.named_parameters():
            mean[name] = 0.8 * mean[name] + 0.2 * value.detach().double()
    last = dict(twin.named_parameters())
    for name, value in found.named_parameters():
        assert torch.allclose(value.double(), mean[name], atol=1e-5), name
    assert any(not torch.allclose(value, last[name], atol=1e-3) for name, value in found.named_parameters())
    assert not found.training


class _StopAfter(StopRequest):
    def __init__(self, steps: int) -> None:
        super().__init__()
        self.left = steps

    def check(self) -> None:
        self.left -= 1
        if self.left <= 0:
            raise StoppedError(15)


def test_a_stopped_student_goes_on_with_its_mean(tmp_path: Path) -> None:
    task, distilled = a_task(), a_set(soft=True)

    def trained(keeper: Keeper) -> nn.Module:
        one = replace(task, keeper=keeper)
        return train_student(one, FixedLabelBatches(one, distilled, stage="student/0"), stage="student/0")

    whole = trained(Keeper(Checkpoints(None, every=1e9)))
    with pytest.raises(StoppedError):
        trained(Keeper(Checkpoints(tmp_path, every=0.0), _StopAfter(5)))
    resumed = trained(Keeper(Checkpoints(tmp_path, every=1e9)))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_stored_labels_bring_the_classes_of_the_online_ones(tmp_path: Path) -> None:
    task, distilled = a_task(), a_set()
    teacher = task.network("convnet3", stage="teacher").eval().requires_grad_(False)
    relabel(task, distilled, teacher, tmp_path, inputs="x", dtype="float32")
    stored = StoredLabels(tmp_path, distilled.images, labels=distilled.labels)
    for step in range(8):
        task.seeds.reset(STAGE, step)
        wanted = online(task, distilled, teacher)(STAGE).batch(step)
        found = stored.batch(step)
        assert wanted.classes is not None
        assert found.classes is not None
        assert torch.equal(found.classes, wanted.classes)
        assert torch.allclose(wanted.classes.sum(dim=1), torch.ones(7))
        assert torch.equal(found.targets, wanted.targets)
    assert wanted.classes.unique().numel() > 2


def test_other_recipes_need_no_classes() -> None:
    task, distilled = a_task(protocol="dc"), a_set(soft=True)
    assert not recipe_of(task.config.student, task.recipes).hard
    assert FixedLabelBatches(task, distilled, stage="student/0").batch(0).classes is None


def test_the_rate_is_halved_as_by_pytorchs_steps() -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    sgd = torch.optim.SGD([weight], lr=1.0)
    reference = torch.optim.lr_scheduler.MultiStepLR(sgd, [800, 900, 950], 0.5)
    for step in range(1000):
        assert late_steps(step, 1000) == pytest.approx(sgd.param_groups[0]["lr"])
        sgd.step()
        reference.step()
