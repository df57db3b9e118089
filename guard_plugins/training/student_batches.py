"""What a student is shown step by step: views of the distilled images, and what to answer to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from guard_plugins.data.distilled import DistilledSet
from guard_plugins.data.mixing import Mix
from guard_plugins.runtime.task import Task
from guard_plugins.training.augmentation import View, draw_mix, draw_view
from guard_plugins.training.batches import EpochBatches
from guard_plugins.training.recipes import Recipe, recipe_of


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
        return self._own(images, rows, drawn.mix)

    def _own(self, images: Tensor, rows: Tensor, mix: Mix | None) -> Lesson:
        """Return the lesson of the set's own labels."""
        targets = F.one_hot(self._labels[rows], self._classes).float()
        return Lesson(images, targets if mix is None else mix.targets(targets), soft=False)


class FixedLessons(OnlineLessons):
    """Lessons whose soft labels are the set's own: one for every image, whatever its view, and mixed like the images.

    Args:
        task: As for :class:`OnlineLessons`.
        distilled: A set with ``soft_labels``.
        stage: As for :class:`OnlineLessons`.
    """

    def __init__(self, task: Task, distilled: DistilledSet, *, stage: str) -> None:
        recipe = recipe_of(task.config.student)
        super().__init__(task, distilled, recipe, None, stage=stage)
        assert distilled.soft_labels is not None
        self._soft, self._temperature = distilled.soft_labels.to(task.device), recipe.temperature

    def _own(self, images: Tensor, rows: Tensor, mix: Mix | None) -> Lesson:
        """Return the logits whose softmax at the recipe's temperature is the mix of the softmaxes."""
        if mix is None:
            return Lesson(images, self._soft[rows], soft=True)
        mixed = mix.targets(F.softmax(self._soft[rows] / self._temperature, dim=1))
        return Lesson(images, self._temperature * mixed.clamp(min=torch.finfo(mixed.dtype).tiny).log(), soft=True)


def online(task: Task, distilled: DistilledSet, teacher: nn.Module | None) -> Callable[[str], OnlineLessons]:
    """Return the lessons of the task's recipe (section ``student``) by the name of a student's loop.

    Args:
        task: Gives settings, seeds, device and classes.
        distilled: The images and their hard labels.
        teacher: In eval mode; None for hard labels.
    """
    recipe = recipe_of(task.config.student)
    return lambda stage: OnlineLessons(task, distilled, recipe, teacher, stage=stage)
