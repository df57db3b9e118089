"""Resizing of whole image tensors, in the one way the project resizes."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

_CHUNK: Final = 4096


def resize(pixels: Tensor, side: int | None) -> Tensor:
    """Return images of ``side`` x ``side`` pixels, bilinear with antialiasing, of the same dtype.

    Args:
        pixels: uint8 in 0..255 or floating point in [0, 1], shape (N, C, H, W).
        side: Wanted side in pixels, or None to leave the images alone.
    """
    if side is None or tuple(pixels.shape[-2:]) == (side, side):
        return pixels
    # In chunks: a float copy of a whole data set would take four times its memory.
    return torch.cat([_resize_chunk(chunk, side) for chunk in pixels.split(_CHUNK)])


def _resize_chunk(pixels: Tensor, side: int) -> Tensor:
    resized = F.interpolate(pixels.float(), size=(side, side), mode="bilinear", antialias=True, align_corners=False)
    if pixels.dtype == torch.uint8:
        return resized.round_().clamp_(0, 255).to(torch.uint8)
    return resized.clamp_(0, 1).to(pixels.dtype)
