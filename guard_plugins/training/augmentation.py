"""The augmentations a training loop can ask for by name."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from guard_plugins.config.core import Augment
from guard_plugins.data.augment import random_crop, random_horizontal_flip, random_resized_crop


def augmentation(name: Augment) -> Callable[[Tensor], Tensor]:
    """Return the augmentation of a batch (B, C, H, W), drawn from PyTorch's global stream.

    Args:
        name: ``crop`` pads by 1/8 of the side (4 at 32 pixels) and crops; ``crop-flip`` also flips half of the images;
            ``resized-crop-flip`` takes a random box of 8 to 100 % of the area, enlarged, and flips (the ImageNet way).
    """
    steps: tuple[Callable[[Tensor], Tensor], ...] = {
        "none": (),
        "crop": (_crop,),
        "crop-flip": (_crop, random_horizontal_flip),
        "resized-crop-flip": (random_resized_crop, random_horizontal_flip),
    }[name]

    def augment(images: Tensor) -> Tensor:
        for step in steps:
            images = step(images)
        return images

    return augment


def _crop(images: Tensor) -> Tensor:
    return random_crop(images, padding=max(images.shape[-1] // 8, 1))
