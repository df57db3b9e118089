"""The batches students are trained on: augmented views of the distilled images, and the targets for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from guard_plugins.data.augment import View
from guard_plugins.data.distilled import DistilledSet, floats_of
from guard_plugins.data.mixing import Mix
from guard_plugins.networks.embedding import WithFeatures
from guard_plugins.runtime.task import Task
from guard_plugins.training.augmentation import augmenter, draw_mix
from guard_plugins.training.batches import EpochBatches
from guard_plugins.training.recipes import Recipe, recipe_of

ON_DEVICE: Final = 2**30
"""Bytes of the largest images that lie on a GPU as a whole; of others, each batch goes there."""


class StudentBatch(NamedTuple):
    """One batch for a student, on the task's device.

    Attributes:
        images: The views, shape (B, C, H, W).
        targets: The teacher's logits on exactly these views, or one-hot labels, mixed like the images; shape (B, K).
        soft: Whether the targets are logits.
        classes: Where the recipe asks for them beside logits: one-hot labels, mixed like the images; shape (B, K).
        features: Where students match them: the teacher's features of these views, shape (B, D).
    """

    images: Tensor
    targets: Tensor
    soft: bool
    classes: Tensor | None = None
    features: Tensor | None = None


class StudentBatches(Protocol):
    """All batches of one student's training.

    Attributes:
        total: Number of batches, one for every step.
    """

    total: int

    def batch(self, step: int) -> StudentBatch:
        """Return the batch of step ``step``, from 0."""


class BatchParameters(NamedTuple):
    """The random choices that make a batch, on the CPU.

    Attributes:
        rows: Index of every training image of the set, int64 of shape (B,).
        view: How the images are augmented.
        mix: How they are mixed, or None.
    """

    rows: Tensor
    view: View
    mix: Mix | None


def placed(images: Tensor, device: torch.device) -> Tensor:
    """Return a set's images where their batches are gathered: on the device, or on the CPU where they are large."""
    return images if images.nbytes > ON_DEVICE else images.to(device)


def gathered(images: Tensor, rows: Tensor, device: torch.device) -> Tensor:
    """Return the images at ``rows`` as float32 in [0, 1] on ``device``.

    Args:
        images: All images, as floats in [0, 1] or bytes in 0..255, shape (N, C, H, W); they may lie in a file.
        rows: Int64 of shape (B,).
        device: Where they are used.
    """
    return floats_of(images[rows.to(images.device)].to(device))


class OnlineBatches:
    """Batches drawn at every step and labelled by the teacher at once, or with the set's own hard labels.

    Attributes:
        total: Number of batches.
        order: The order of the images.

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
        self.order = EpochBatches(len(distilled), recipe.batch_size, seeds=task.seeds, stage=stage)
        self.total = self.order.per_epoch * recipe.epochs
        self._set, self._images = distilled, placed(distilled.images, task.device)
        self._labels, self._device = distilled.labels.to(task.device), task.device
        self._recipe, self._teacher, self._classes = recipe, teacher, task.classes
        matched = task.config.student.feature_weight > 0
        self._both = WithFeatures(teacher) if teacher is not None and matched else None
        self._augment = augmenter(recipe.augment, task.augmentations)

    def batch(self, step: int) -> StudentBatch:
        """Return the batch of step ``step``, drawn from PyTorch's global random stream."""
        return self.apply(self.draw(step))

    def draw(self, step: int) -> BatchParameters:
        """Return the random choices of step ``step``; all but ``rows`` come from PyTorch's global random stream."""
        rows, size = self.order.index(step), (self._images.shape[-2], self._images.shape[-1])
        return BatchParameters(rows, self._augment.draw(len(rows), size), draw_mix(self._recipe, len(rows), size))

    @torch.no_grad()
    def apply(self, parameters: BatchParameters) -> StudentBatch:
        """Return the batch that these choices make; nothing random is left."""
        rows = parameters.rows.to(self._device)
        images = self._set.read(parameters.rows, images=self._images, device=self._device)
        images = self._augment.apply(images, parameters.view)
        images = images if parameters.mix is None else parameters.mix.of(images)
        if self._teacher is not None:
            batch = self._with_soft_labels(images, self._teacher)
        else:
            batch = self._with_own_labels(images, rows, parameters.mix)
        if not (batch.soft and self._recipe.hard):
            return batch
        return batch._replace(classes=self._one_hot(rows, parameters.mix))

    def _with_soft_labels(self, images: Tensor, teacher: nn.Module) -> StudentBatch:
        """Return a batch with the teacher's logits, and its features where students match them."""
        if self._both is None:
            return StudentBatch(images, teacher(images), soft=True)
        logits, features = self._both(images)
        return StudentBatch(images, logits, soft=True, features=features)

    def _with_own_labels(self, images: Tensor, rows: Tensor, mix: Mix | None) -> StudentBatch:
        """Return a batch with the set's own labels."""
        return StudentBatch(images, self._one_hot(rows, mix), soft=False)

    def _one_hot(self, rows: Tensor, mix: Mix | None) -> Tensor:
        """Return the classes of training images, mixed like these, shape (B, K)."""
        targets = F.one_hot(self._labels[rows // self._set.per_image], self._classes).float()
        return targets if mix is None else mix.targets(targets)


class FixedLabelBatches(OnlineBatches):
    """Batches with the set's own soft labels: one per training image, whatever its augmentation, and mixed alike.

    Args:
        task: As for :class:`OnlineBatches`.
        distilled: A set with ``soft_labels``.
        stage: As for :class:`OnlineBatches`.
    """

    def __init__(self, task: Task, distilled: DistilledSet, *, stage: str) -> None:
        recipe = recipe_of(task.config.student, task.recipes)
        super().__init__(task, distilled, recipe, None, stage=stage)
        soft = distilled.soft(torch.arange(len(distilled)))
        self._soft, self._temperature = soft.to(task.device), recipe.temperature

    def _with_own_labels(self, images: Tensor, rows: Tensor, mix: Mix | None) -> StudentBatch:
        """Return logits whose softmax at the recipe's temperature is the mix of the images' softmaxes."""
        if mix is None:
            return StudentBatch(images, self._soft[rows], soft=True)
        mixed = mix.targets(F.softmax(self._soft[rows] / self._temperature, dim=1))
        return StudentBatch(images, self._temperature * mixed.clamp(min=torch.finfo(mixed.dtype).tiny).log(), soft=True)


def online(task: Task, distilled: DistilledSet, teacher: nn.Module | None) -> Callable[[str], OnlineBatches]:
    """Return a function from the name of a student's loop to its batches, by the recipe in section ``student``.

    Args:
        task: Gives settings, seeds, device and classes.
        distilled: The images and their hard labels.
        teacher: In eval mode; None for hard labels.
    """
    recipe = recipe_of(task.config.student, task.recipes)
    return lambda stage: OnlineBatches(task, distilled, recipe, teacher, stage=stage)
