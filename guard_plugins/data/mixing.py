"""MixUp and CutMix: every image of a batch mixed with another image of the same batch."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Mixed(NamedTuple):
    """A mixed batch.

    Attributes:
        images: The mixed images, shape (B, C, H, W).
        permutation: Position of the partner each image was mixed with, int64 of shape (B,).
        share: Share of the image itself, lambda in the papers; the partner has the rest.
    """

    images: Tensor
    permutation: Tensor
    share: float

    def targets(self, targets: Tensor) -> Tensor:
        """Return one-hot or soft targets (B, K), floating point, mixed like the images."""
        return targets.lerp(targets[self.permutation], 1 - self.share)


def mixup(images: Tensor, *, alpha: float) -> Mixed:
    """Return convex combinations of the images with one lambda ~ Beta(alpha, alpha) (Zhang et al., ICLR 2018).

    Args:
        images: Shape (B, C, H, W).
        alpha: Both parameters of the Beta distribution; 0 leaves the images unmixed.
    """
    share, permutation = _share(alpha), _permutation(images)
    return Mixed(images.lerp(images[permutation], 1 - share), permutation, share)


def cutmix(images: Tensor, *, alpha: float) -> Mixed:
    """Return the images with one box replaced by the partner's (Yun et al., ICCV 2019).

    The box covers 1 - lambda of the area, lambda ~ Beta(alpha, alpha), around a uniform centre, cut off at the border;
    ``share`` is what is left of the image after that.

    Args:
        images: Shape (B, C, H, W).
        alpha: Both parameters of the Beta distribution; 0 leaves the images unmixed.
    """
    share, permutation = _share(alpha), _permutation(images)
    height, width = images.shape[-2:]
    top, bottom = _interval(height, share)
    left, right = _interval(width, share)
    mixed = images.clone()
    mixed[..., top:bottom, left:right] = images[permutation, :, top:bottom, left:right]
    return Mixed(mixed, permutation, 1 - (bottom - top) * (right - left) / (height * width))


def _share(alpha: float) -> float:
    if alpha <= 0:
        return 1.0
    return float(torch.distributions.Beta(torch.tensor(alpha, dtype=torch.float64), alpha).sample())


def _permutation(images: Tensor) -> Tensor:
    # On the CPU: the same partners on every device.
    return torch.randperm(len(images)).to(images.device)


def _interval(size: int, share: float) -> tuple[int, int]:
    """Return the part of an axis the box covers."""
    half = int(size * math.sqrt(1 - share)) // 2
    centre = int(torch.randint(size, ()))
    return max(centre - half, 0), min(centre + half, size)
