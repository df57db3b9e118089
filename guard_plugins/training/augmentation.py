"""The augmentations a training loop can ask for by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor

from guard_plugins.data.augment import random_crop, random_horizontal_flip

Augment = Literal["none", "crop-flip", "crop"]


def augmentation(name: Augment) -> Callable[[Tensor], Tensor]:
    """Return the augmentation of a batch (B, C, H, W), drawn from PyTorch's global stream.

    Args:
        name: ``crop`` pads by 1/8 of the side (4 at 32 pixels) and crops; ``crop-flip`` also flips half of the images.
    """
    steps: tuple[Callable[[Tensor], Tensor], ...] = {
        "none": (),
        "crop": (_crop,),
        "crop-flip": (_crop, random_horizontal_flip),
    }[name]

    def augment(images: Tensor) -> Tensor:
        for step in steps:
            images = step(images)
        return images

    return augment


def _crop(images: Tensor) -> Tensor:
    return random_crop(images, padding=max(images.shape[-1] // 8, 1))
