"""Patches of real images: their score by the teacher, and images put together from several patches."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def unlikeliness(teacher: nn.Module, patches: Tensor, label: int, *, batch: int) -> Tensor:
    """Return the teacher's cross-entropy of every patch, shape (N,); lower is more realistic (equation 5).

    Args:
        teacher: Maps images in [0, 1] to logits; in eval mode.
        patches: Shape (N, C, H, W).
        label: The class of all patches.
        batch: Patches per forward pass.
    """
    with torch.no_grad():
        return torch.cat(
            [F.cross_entropy(teacher(part), torch.full((len(part),), label, device=part.device), reduction="none")
             for part in patches.split(batch)]
        )  # fmt: skip


def collage(patches: Tensor, factor: int) -> Tensor:
    """Return images put together from ``factor`` x ``factor`` shrunk patches each, shape (N / factor², C, H, W).

    Args:
        patches: Shape (N, C, H, W), the most realistic first; image ``i`` takes every n-th from the i-th on, so that
            all images get good ones.
        factor: Patches per side; 1 returns the patches as they are.
    """
    if factor == 1:
        return patches
    count, (channels, height, width) = len(patches) // factor**2, patches.shape[1:]
    size = (height // factor, width // factor)
    small = F.interpolate(patches, size=size, mode="bilinear", antialias=True, align_corners=False)
    grid = small.view(factor, factor, count, channels, *size).permute(2, 3, 0, 4, 1, 5)
    return grid.reshape(count, channels, height, width).clamp(0, 1)
