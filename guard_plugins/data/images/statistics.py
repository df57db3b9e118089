"""Per-channel mean and standard deviation of a split."""

from __future__ import annotations

from typing import Final

import torch

from guard_plugins.data.base import Split

MOST_IMAGES: Final = 50_000
"""Splits larger than this are measured on that many evenly spaced images."""

_CHUNK: Final = 512
_SMALLEST_STD: Final = 1e-3  # blank images must not make the model divide by zero


def channel_statistics(split: Split) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation over all pixels of each channel, in [0, 1].

    Args:
        split: Usually the training split; the order of its images plays no part up to rounding.
    """
    count = min(len(split), MOST_IMAGES)
    index = (torch.arange(count) * len(split)) // count
    total = squares = torch.zeros((), dtype=torch.float64)
    pixels = 0
    for part in index.split(_CHUNK):
        images = split.images(part)
        total = total + images.sum((2, 3)).double().sum(0)
        squares = squares + images.square().sum((2, 3)).double().sum(0)
        pixels += images[:, 0].numel()
    mean = total / pixels
    std = (squares / pixels - mean.square()).clamp(min=0).sqrt().clamp(min=_SMALLEST_STD)
    return tuple(mean.tolist()), tuple(std.tolist())
