"""Random boxes for crops, drawn for a whole batch at once with the distribution torchvision draws one at a time."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import torch
from torch import Tensor

ATTEMPTS: Final = 10
"""How often a box that does not fit is drawn again before the centre is taken, as in torchvision."""


class Boxes(NamedTuple):
    """One box per image, in pixels; every field is int64 of shape (B,)."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor


def draw_boxes(
    count: int, size: tuple[int, int], *, scale: tuple[float, float], ratio: tuple[float, float]
) -> Boxes:  # fmt: skip
    """Return random boxes within images of one size, drawn from PyTorch's global CPU stream.

    Args:
        count: Number of boxes.
        size: (H, W) of the images.
        scale: Range of the box's share of the area, drawn uniformly.
        ratio: Range of its width over its height, drawn log-uniformly.
    """
    rows, columns = size
    area = rows * columns * torch.empty(ATTEMPTS, count).uniform_(*scale).double()
    aspect = torch.empty(ATTEMPTS, count).uniform_(math.log(ratio[0]), math.log(ratio[1])).double().exp()
    widths, heights = (area * aspect).sqrt().round().long(), (area / aspect).sqrt().round().long()
    fits = (widths > 0) & (widths <= columns) & (heights > 0) & (heights <= rows)
    first = fits.int().argmax(0, keepdim=True)
    found = fits.any(0)
    centre_height, centre_width = _central(size, ratio)
    height = torch.where(found, heights.gather(0, first)[0], centre_height)
    width = torch.where(found, widths.gather(0, first)[0], centre_width)
    top = torch.where(found, _uniform(rows - height), (rows - centre_height) // 2)
    left = torch.where(found, _uniform(columns - width), (columns - centre_width) // 2)
    return Boxes(top, left, height, width)


def _uniform(most: Tensor) -> Tensor:
    """Return integers drawn uniformly from 0..most."""
    drawn = (torch.rand(len(most), dtype=torch.float64) * (most + 1)).long()
    return torch.minimum(drawn, most)


def _central(size: tuple[int, int], ratio: tuple[float, float]) -> tuple[int, int]:
    """Return (height, width) of the largest box whose aspect lies within ``ratio``."""
    rows, columns = size
    if columns / rows < ratio[0]:
        return round(columns / ratio[0]), columns
    if columns / rows > ratio[1]:
        return rows, round(rows * ratio[1])
    return rows, columns
