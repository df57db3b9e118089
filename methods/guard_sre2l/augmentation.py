"""The random views of the synthetic batch: crop, flip and shift, the same for the whole batch."""

from __future__ import annotations

import torch
from torch import Tensor

from guard_plugins.data.augment import random_resized_crop


def random_view(images: Tensor, *, crop_scale: float, flip: bool, jitter: int) -> Tensor:
    """Return one random view of a batch (B, C, H, W), drawn from PyTorch's global stream.

    Args:
        images: The synthetic images.
        crop_scale: Smallest area share of the crop, resized back; 1 turns the crop off.
        flip: Whether half of the views are mirrored.
        jitter: Largest cyclic shift in pixels, both ways and in both directions.
    """
    if crop_scale < 1:
        images = random_resized_crop(images, scale=(crop_scale, 1.0), shared=True)
    if flip and torch.rand(()) < 0.5:
        images = images.flip(-1)
    if jitter:
        shifts = torch.randint(-jitter, jitter + 1, (2,)).tolist()
        images = images.roll(shifts, dims=(-2, -1))
    return images
