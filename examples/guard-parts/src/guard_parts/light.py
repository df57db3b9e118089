"""An augmentation: a random crop and flip, under light of a random strength."""

from __future__ import annotations

import torch
from torch import Tensor

from guard_plugins.data.augment import CropFlip, View


class Light(CropFlip):
    """The crops and flips of ``crop-flip``, each image darker or brighter by up to 30 %."""

    name, summary, numbers = "crop-flip-light", "crop-flip, and up to 30 % darker or brighter", 1

    def draw(self, count: int, size: tuple[int, int]) -> View:
        """Return random views, with one more number for each image: the factor on its pixels."""
        return super().draw(count, size)._replace(numbers=0.7 + 0.6 * torch.rand(count, 1))

    def apply(self, images: Tensor, view: View) -> Tensor:
        """Return the views of images (B, C, H, W); nothing random is left."""
        assert view.numbers is not None
        factor = view.numbers.to(images).view(-1, 1, 1, 1)
        return (super().apply(images, view) * factor).clamp(0, 1)
