"""Forward passes over large batches in parts that fit the memory a CPU has at hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

PART_PIXELS: Final = 2**13
"""Pixels of a part, 8 images of 32x32: ConvNet-3's activations take 4 MiB each.

In one piece, real batches of 64 take 1.6 times as long and of 256 twice: the C library hands the pages of large tensors
back to the system, and half of the time goes to clearing those of the next ones.
"""


def in_parts(model: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Return the logits (B, K) of images (B, C, H, W), on a CPU from several calls of the model.

    The result is that of one call but for rounding, as long as the model treats every image by itself.

    Args:
        model: Maps images to logits.
        images: The batch.
    """
    if images.device.type != "cpu":
        return model(images)
    parts = images.split(max(1, PART_PIXELS // (images.shape[-2] * images.shape[-1])))
    return model(images) if len(parts) == 1 else torch.cat([model(part) for part in parts])
