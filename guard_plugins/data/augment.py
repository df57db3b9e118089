"""Placeholder by the lead so that the pipeline runs; the author of guard_plugins/data replaces this file (keep the three names)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def random_crop(images: Tensor, *, padding: int) -> Tensor:
    b, _, h, w = images.shape
    padded = F.pad(images, (padding,) * 4)
    out = torch.empty_like(images)
    for i in range(b):
        y, x = torch.randint(0, 2 * padding + 1, (2,)).tolist()
        out[i] = padded[i, :, y : y + h, x : x + w]
    return out


def random_horizontal_flip(images: Tensor) -> Tensor:
    mask = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
    return torch.where(mask, images.flip(-1), images)


def random_resized_crop(images: Tensor, *, scale: tuple[float, float], shared: bool = False) -> Tensor:
    raise NotImplementedError
