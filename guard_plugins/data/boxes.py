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


class BoxNumbers(NamedTuple):
    """What a box follows from in an image of any size; the last dimension of every field is the image.

    Attributes:
        area: Shares of the area, float32 of shape (ATTEMPTS, B).
        aspect: Width over height, float64 of shape (ATTEMPTS, B).
        top: Where the box lies between the first and the last row it may begin in, float64 in [0, 1) of shape (B,).
        left: The same for columns.
    """

    area: Tensor
    aspect: Tensor
    top: Tensor
    left: Tensor


def draw_numbers(
    count: int, *, scale: tuple[float, float], ratio: tuple[float, float], generator: torch.Generator | None = None
) -> BoxNumbers:
    """Return the numbers behind random boxes.

    Args:
        count: Number of boxes.
        scale: Range of the box's share of the area, drawn uniformly.
        ratio: Range of its width over its height, drawn log-uniformly.
        generator: Where they are drawn; None for PyTorch's global CPU stream.
    """
    area = torch.empty(ATTEMPTS, count).uniform_(*scale, generator=generator)
    logs = torch.empty(ATTEMPTS, count).uniform_(math.log(ratio[0]), math.log(ratio[1]), generator=generator)
    top, left = (torch.rand(count, dtype=torch.float64, generator=generator) for _ in range(2))
    return BoxNumbers(area, logs.double().exp(), top, left)


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
    return boxes_in(size, draw_numbers(count, scale=scale, ratio=ratio), ratio)


def boxes_in(size: tuple[int, int], numbers: BoxNumbers, ratio: tuple[float, float]) -> Boxes:
    """Return the boxes that numbers stand for in images of one size.

    Args:
        size: (H, W) of the images.
        numbers: From :func:`draw_numbers`.
        ratio: Range of width over height; the central box that takes the place of one that does not fit keeps to it.
    """
    rows, columns = size
    aspect = numbers.aspect
    area = rows * columns * numbers.area.double()
    widths, heights = (area * aspect).sqrt().round().long(), (area / aspect).sqrt().round().long()
    fits = (widths > 0) & (widths <= columns) & (heights > 0) & (heights <= rows)
    first = fits.int().argmax(0, keepdim=True)
    found = fits.any(0)
    centre_height, centre_width = _central(size, ratio)
    height = torch.where(found, heights.gather(0, first)[0], centre_height)
    width = torch.where(found, widths.gather(0, first)[0], centre_width)
    top = torch.where(found, _position(numbers.top, rows - height), (rows - centre_height) // 2)
    left = torch.where(found, _position(numbers.left, columns - width), (columns - centre_width) // 2)
    return Boxes(top, left, height, width)


def _position(share: Tensor, most: Tensor) -> Tensor:
    """Return an integer of 0..most for each share in [0, 1)."""
    return torch.minimum((share * (most + 1)).long(), most)


def _central(size: tuple[int, int], ratio: tuple[float, float]) -> tuple[int, int]:
    """Return (height, width) of the largest box whose aspect lies within ``ratio``."""
    rows, columns = size
    if columns / rows < ratio[0]:
        return round(columns / ratio[0]), columns
    if columns / rows > ratio[1]:
        return rows, round(rows * ratio[1])
    return rows, columns
