"""Splits whose images lie in memory, and the selection of a few images per class."""

from __future__ import annotations

import torch
from torch import Tensor

from guard_plugins.data.base import Split
from guard_plugins.data.classes import members_by_class
from guard_plugins.errors import DataError


class TensorSplit(Split):
    """A split held in memory, as bytes or as floats.

    Attributes:
        pixels: The images as stored, shape (N, C, H, W).

    Args:
        pixels: uint8 in 0..255 or floating point in [0, 1], shape (N, C, H, W); kept, not copied.
        labels: Class indices, shape (N,).

    Raises:
        DataError: If the shapes do not fit each other, or floating-point pixels leave [0, 1].
    """

    def __init__(self, pixels: Tensor, labels: Tensor) -> None:
        self.pixels, self.labels = pixels, labels.to("cpu", torch.int64)
        if pixels.ndim != 4 or labels.shape != pixels.shape[:1]:
            raise DataError(
                "Images and labels do not fit each other.",
                seen=f"images of shape {tuple(pixels.shape)}, labels of shape {tuple(labels.shape)}",
                do="Give images of shape (N, C, H, W) and one label per image.",
            )
        if pixels.dtype != torch.uint8:
            _require_unit_range(pixels)

    def images(self, index: Tensor) -> Tensor:
        """Return the images at ``index`` (int64, shape (B,)) as float32 in [0, 1], shape (B, C, H, W)."""
        chosen = self.pixels[index]
        return chosen.float().div_(255) if chosen.dtype == torch.uint8 else chosen.float()


def first_per_class(labels: Tensor, limit: int | None) -> Tensor:
    """Return the positions of the first ``limit`` images of every class, in their original order.

    Args:
        labels: Class indices, int64 of shape (N,).
        limit: Largest number per class, or None for all.
    """
    if limit is None:
        return torch.arange(len(labels))
    if not len(labels):
        return torch.empty(0, dtype=torch.int64)
    kept = [members[:limit] for members in members_by_class(labels, int(labels.max()) + 1)]
    return torch.cat(kept).sort().values


def _require_unit_range(pixels: Tensor) -> None:
    low, high = (float(value) for value in pixels.aminmax()) if pixels.numel() else (0.0, 0.0)
    if not (low >= 0 and high <= 1):
        raise DataError(
            "Floating-point images must lie in [0, 1].",
            seen=f"{pixels.dtype} pixels from {low:g} to {high:g}",
            do="Divide by the largest value the format has, or pass uint8 images in 0..255.",
        )
