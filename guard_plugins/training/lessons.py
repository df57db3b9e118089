"""What a student is shown step by step: views of the distilled images, and what to answer to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from guard_plugins.data.batches import EpochBatches
from guard_plugins.data.mixing import Mix
from guard_plugins.distilled import DistilledSet
from guard_plugins.task import Task
from guard_plugins.training.augmentation import View, draw_mix, draw_view
from guard_plugins.training.protocols import Recipe, recipe_of


class Lesson(NamedTuple):
    """One batch for a student, on the task's device.

    Attributes:
        images: The views, shape (B, C, H, W).
        answers: The teacher's logits on exactly these images, or the one-hot labels, mixed like them; shape (B, K).
        soft: Whether the answers are logits.
    """

    images: Tensor
    answers: Tensor
    soft: bool


class Lessons(Protocol):
    """A source of lessons.

    Attributes:
        total: Number of lessons: the steps of the student's training.
    """

    total: int

    def lesson(self, step: int) -> Lesson:
        """Return the lesson of step ``step``, from 0."""


class Drawn(NamedTuple):
    """The random numbers of one lesson, on the CPU.

    Attributes:
        rows: The images, int64 of shape (B,).
        view: How they are looked at.
        mix: How they are mixed, or None.
    """

    rows: Tensor
    view: View
    mix: Mix | None


class OnlineLessons:
    """Lessons drawn anew at every step, labelled by the teacher on the spot, or with the set's own hard labels.

    Attributes:
        total: Number of lessons.
        batches: The order of the images.

    Args:
        task: Gives seeds, device and classes.
        distilled: The images and their hard labels.
        recipe: Batch size, epochs and augmentation.
        teacher: In eval mode, on the task's device; None for hard labels.
        stage: Name of the loop; decides the order.
    """

    def __init__(
        self, task: Task, distilled: DistilledSet, recipe: Recipe, teacher: nn.Module | None, *, stage: str
    ) -> None:
        self.batches = EpochBatches(len(distilled.images), recipe.batch_size, seeds=task.seeds, stage=stage)
        self.total = self.batches.per_epoch * recipe.epochs
        self._images, self._labels = distilled.images.to(task.device), distilled.labels.to(task.device)
        self._recipe, self._teacher, self._classes = recipe, teacher, task.classes

    def lesson(self, step: int) -> Lesson:
        """Return the lesson of step ``step``, drawn from PyTorch's global stream."""
        return self.given(self.draw(step))

    def draw(self, step: int) -> Drawn:
        """Return the random numbers of step ``step``; all but the order come from PyTorch's global stream."""
        rows, size = self.batches.index(step), (self._images.shape[-2], self._images.shape[-1])
        view = draw_view(self._recipe.augment, len(rows), size)
        return Drawn(rows, view, draw_mix(self._recipe, len(rows), size))

    @torch.no_grad()
    def given(self, drawn: Drawn) -> Lesson:
        """Return the lesson these numbers make, deterministically."""
        rows = drawn.rows.to(self._images.device)
        images = drawn.view.of(self._images[rows])
        images = images if drawn.mix is None else drawn.mix.of(images)
        if self._teacher is not None:
            return Lesson(images, self._teacher(images), soft=True)
        targets = F.one_hot(self._labels[rows], self._classes).float()
        return Lesson(images, targets if drawn.mix is None else drawn.mix.targets(targets), soft=False)


def online(task: Task, distilled: DistilledSet, teacher: nn.Module | None) -> Callable[[str], OnlineLessons]:
    """Return the lessons of the task's recipe (section ``student``) by the name of a student's loop.

    Args:
        task: Gives settings, seeds, device and classes.
        distilled: The images and their hard labels.
        teacher: In eval mode; None for hard labels.
    """
    recipe = recipe_of(task.config.student)
    return lambda stage: OnlineLessons(task, distilled, recipe, teacher, stage=stage)
