"""Augmentation of training images: the augmentations with a name, and the mixing of two images.

Random numbers are drawn first and applied afterwards, so a view can be made again from a few stored numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from guard_plugins.config.schema import Augment
from guard_plugins.data.augment import crop_and_resize, draw_offsets, flip, shift
from guard_plugins.data.boxes import Boxes, draw_boxes
from guard_plugins.data.mixing import Mix, draw_cutmix, draw_mixup
from guard_plugins.training.parts import ALL, Rows
from guard_plugins.training.recipes import Recipe


class View(NamedTuple):
    """How every image of a batch is cropped and flipped, all on the CPU.

    Attributes:
        window: The crop, int64: offsets of a window of the image's size, shape (B, 2); or top, left, height and width
            of a box that is resized to the image's size, shape (B, 4). None for the whole image.
        flipped: Which images are mirrored left to right, bool of shape (B,); None if none is.
    """

    window: Tensor | None = None
    flipped: Tensor | None = None

    def of(self, images: Tensor) -> Tensor:
        """Return the views of the images (B, C, H, W)."""
        if self.window is not None and self.window.shape[1] == 2:
            images = shift(images, self.window)
        elif self.window is not None:
            images = crop_and_resize(images, Boxes(*self.window.unbind(1)))
        return images if self.flipped is None else flip(images, self.flipped)

    def part(self, rows: Rows) -> View:
        """Return the views of some of the images."""
        return View(*(None if drawn is None else rows.take(drawn) for drawn in self))


def draw_view(name: Augment, count: int, size: tuple[int, int]) -> View:
    """Return random views of ``count`` images, drawn from PyTorch's global stream.

    Args:
        name: ``crop`` pads by 1/8 of the side (4 at 32 pixels) and crops; ``crop-flip`` also flips half of the images;
            ``resized-crop-flip`` takes a random box of 8 to 100 % of the area, enlarged, and flips (the ImageNet way).
        count: Number of images.
        size: Their (H, W).
    """
    if name == "none":
        return View()
    if name == "resized-crop-flip":
        boxes = draw_boxes(count, size, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3))
        window = torch.stack(boxes, dim=1)
    else:
        window = draw_offsets(count, padding=largest_offset(size))
    return View(window, None if name == "crop" else torch.rand(count) < 0.5)


def largest_offset(size: tuple[int, int]) -> int:
    """Return by how many pixels ``crop`` shifts images of (H, W) at most."""
    return max(size[1] // 8, 1)


def augmentation(name: Augment, rows: Rows = ALL) -> Callable[[Tensor], Tensor]:
    """Return the augmentation of a batch (B, C, H, W), or of its ``rows``, called ``name``, see :func:`draw_view`."""

    def augment(images: Tensor) -> Tensor:
        count = len(images) if rows.of == 1 else rows.total
        return draw_view(name, count, (images.shape[-2], images.shape[-1])).part(rows).of(images)

    return augment


def draw_mix(recipe: Recipe, count: int, size: tuple[int, int]) -> Mix | None:
    """Return how a recipe mixes a batch, drawn from PyTorch's global stream; None if it does not mix.

    Args:
        recipe: The recipe; if it has both MixUp and CutMix, it is CutMix.
        count: Number of images.
        size: Their (H, W).
    """
    if recipe.cutmix:
        return draw_cutmix(count, size, alpha=recipe.cutmix)
    return draw_mixup(count, alpha=recipe.mixup) if recipe.mixup else None
