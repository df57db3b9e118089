"""The distilled set: what a method returns and students learn from."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from guard_plugins.errors import TrainingError


@dataclass(frozen=True)
class DistilledSet:
    """Synthetic (or selected) images with their labels.

    Attributes:
        images: float32 of shape (N, C, H, W), pixels in [0, 1], on the CPU.
        labels: Class of every image, int64 of shape (N,), on the CPU.
        soft_labels: Logits of the teacher on the images, float32 of shape (N, K), or None.
        student_lr: Rate of the students that was learned with the images (MTT and its kin), or None.
        student_steps: Steps of the students that belong to the images, or None.

    Raises:
        TrainingError: If shapes or types disagree, the set is empty, a label is negative, pixels are not finite or
            leave [0, 1], or rate or steps are not above 0.
    """

    images: Tensor
    labels: Tensor
    soft_labels: Tensor | None = None
    student_lr: float | None = None
    student_steps: int | None = None

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        fits = images.dim() == 4 and images.numel() > 0 and labels.shape == images.shape[:1]
        if not fits or not images.is_floating_point() or labels.dtype != torch.int64 or bool((labels < 0).any()):
            raise TrainingError(
                "A distilled set must have floating-point images (N, C, H, W) and labels (N,), int64 from 0",
                seen=f"images {tuple(images.shape)} {images.dtype}, labels {tuple(labels.shape)} {labels.dtype}",
            )
        soft = self.soft_labels
        if soft is not None and (soft.dim() != 2 or len(soft) != len(labels) or not bool(torch.isfinite(soft).all())):
            raise TrainingError(
                "The soft labels of a distilled set must be finite logits (N, K)", seen=f"shape {tuple(soft.shape)}"
            )
        if not bool(torch.isfinite(self.images).all()):
            raise TrainingError(
                "The distilled images are not finite numbers", do="Lower the learning rate of the distillation."
            )
        rate = self.student_lr
        if rate is not None and not (math.isfinite(rate) and rate > 0):
            raise TrainingError("The learned rate of a distilled set must be a number above 0", seen=str(rate))
        steps = self.student_steps
        if steps is not None and (type(steps) is not int or steps < 1):
            raise TrainingError(
                "The steps of a distilled set's students must be a whole number above 0", seen=str(steps)
            )
        low, high = self.images.aminmax()
        if low < 0 or high > 1:
            raise TrainingError(
                "The distilled images leave the range [0, 1]", seen=f"pixels from {low:.4g} to {high:.4g}"
            )

    def as_stored(self) -> DistilledSet:
        """Return the set as its PNGs hold it: pixels rounded to 8 bits."""
        return replace(self, images=(self.images * 255).round() / 255)
