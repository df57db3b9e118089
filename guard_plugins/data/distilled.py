"""The distilled set: what a method returns and students learn from."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from guard_plugins.data.augment import crop_and_resize
from guard_plugins.data.boxes import Boxes
from guard_plugins.data.views import require_soft, require_views
from guard_plugins.errors import TrainingError


@dataclass(frozen=True)
class DistilledSet:
    """Synthetic (or selected) images with their labels, and how training images are read from them.

    A stored image is one training image, or several where ``views`` says so (multi-formation of IDC, arXiv 2205.14959).
    ``len`` is the number of training images; training image ``i`` is view ``i % V`` of stored image ``i // V``.

    Attributes:
        images: float32 of shape (N, C, H, W), pixels in [0, 1], on the CPU; it may lie in a file. Sets read from
            pictures have uint8 in 0..255.
        labels: Class of every image, int64 of shape (N,), on the CPU.
        soft_labels: Logits, float32 of shape (N, K) or, for every view, (N, V, K); or None. Of what ``distill``
            returns, rows of probabilities (no negative number, sum 1) become their logarithms.
        student_lr: Rate of the students that was learned with the images (MTT and its kin), or None.
        student_steps: Steps of the students that belong to the images, or None.
        views: Boxes in the stored images (top, left, height, width, in pixels), int64 of shape (N, V, 4): each is
            enlarged to the full size, and is a training image. None where each stored image is one.

    Raises:
        TrainingError: If shapes or types disagree, the set is empty, a label is negative, pixels are not finite or
            leave [0, 1], or rate or steps are not above 0.
    """

    images: Tensor
    labels: Tensor
    soft_labels: Tensor | None = None
    student_lr: float | None = None
    student_steps: int | None = None
    views: Tensor | None = None

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        fits = images.dim() == 4 and images.numel() > 0 and labels.shape == images.shape[:1]
        typed = images.is_floating_point() or images.dtype == torch.uint8
        if not fits or not typed or labels.dtype != torch.int64 or bool((labels < 0).any()):
            raise TrainingError(
                "A distilled set must have floating-point images (N, C, H, W) and labels (N,), int64 from 0",
                seen=f"images {tuple(images.shape)} {images.dtype}, labels {tuple(labels.shape)} {labels.dtype}",
            )
        require_views(self.views, images)
        require_soft(self.soft_labels, len(labels), self.per_image)
        rate = self.student_lr
        if rate is not None and not (math.isfinite(rate) and rate > 0):
            raise TrainingError("The learned rate of a distilled set must be a number above 0", seen=str(rate))
        steps = self.student_steps
        if steps is not None and (type(steps) is not int or steps < 1):
            raise TrainingError(
                "The steps of a distilled set's students must be a whole number above 0", seen=str(steps)
            )
        if images.dtype != torch.uint8:
            _require_pixels(images)

    def __repr__(self) -> str:
        soft = "" if self.soft_labels is None else f", soft labels {tuple(self.soft_labels.shape)}"
        views = "" if self.views is None else f", {self.per_image} training images in each"
        return f"DistilledSet({tuple(self.images.shape)}, {len(self.labels.unique())} classes{soft}{views})"

    def as_floats(self) -> DistilledSet:
        """Return the set with float32 images in [0, 1]."""
        if self.images.dtype == torch.float32:
            return self
        return replace(self, images=floats_of(self.images))

    @property
    def per_image(self) -> int:
        """Training images in one stored image."""
        return 1 if self.views is None else self.views.shape[1]

    def __len__(self) -> int:
        return len(self.labels) * self.per_image

    def read(self, rows: Tensor, *, images: Tensor | None = None, device: torch.device | None = None) -> Tensor:
        """Return training images as float32 in [0, 1], shape (B, C, H, W); no others are decoded.

        Args:
            rows: Their numbers, int64 of shape (B,).
            images: The stored images where they lie on another device.
            device: Where the training images are used; where the stored ones are if None.
        """
        images = self.images if images is None else images
        device = images.device if device is None else device
        stored = floats_of(images[(rows // self.per_image).to(images.device)].to(device))
        if self.views is None:
            return stored
        boxes = self.views[rows.cpu() // self.per_image, rows.cpu() % self.per_image]
        return crop_and_resize(stored, Boxes(*boxes.unbind(1)))

    def soft(self, rows: Tensor) -> Tensor:
        """Return the logits of training images, shape (B, K); rows as for :meth:`read`, and soft labels are there."""
        assert self.soft_labels is not None
        if self.soft_labels.dim() == 2:
            return self.soft_labels[rows // self.per_image]
        return self.soft_labels[rows // self.per_image, rows % self.per_image]

    def decoded(self) -> DistilledSet:
        """Return the set with every training image as a stored one; itself where that is so."""
        if self.views is None:
            return self
        rows = torch.arange(len(self))
        soft = None if self.soft_labels is None else self.soft(rows)
        images = self.read(rows).clamp(0, 1)  # interpolation may round beyond
        return replace(self, images=images, labels=self.labels[rows // self.per_image], soft_labels=soft, views=None)

    def as_stored(self) -> DistilledSet:
        """Return the set as its PNGs hold it: pixels rounded to 8 bits."""
        return replace(self, images=(self.images * 255).round() / 255)


def floats_of(images: Tensor) -> Tensor:
    """Return images as float32 in [0, 1], from floats in [0, 1] or bytes in 0..255; of any shape, on any device."""
    if images.dtype != torch.uint8:
        return images.float()
    # By a tensor: CUDA multiplies with the inverse of a number, which rounds otherwise than the CPU.
    return images.float() / torch.tensor(255.0, device=images.device)


def _require_pixels(images: Tensor) -> None:
    """Check image by image, so that a set that lies in a file is not held in memory.

    Raises:
        TrainingError: If a pixel is not finite or leaves [0, 1].
    """
    extremes = torch.stack([torch.stack(image.aminmax()) for image in images])  # a NaN is both extremes
    if not bool(torch.isfinite(extremes).all()):
        raise TrainingError(
            "The distilled images are not finite numbers", do="Lower the learning rate of the distillation."
        )
    low, high = extremes[:, 0].min(), extremes[:, 1].max()
    if low < 0 or high > 1:
        raise TrainingError("The distilled images leave the range [0, 1]", seen=f"pixels from {low:.4g} to {high:.4g}")
