"""Drawing real images class by class."""

from __future__ import annotations

import torch
from torch import Tensor

from guard_plugins.data.base import Split


class Classwise:
    """The images of a split, by class.

    Attributes:
        members: Positions of each class's images in the split, int64.

    Args:
        split: Where the images are.
        classes: Number of classes; a class may be without images.
    """

    def __init__(self, split: Split, classes: int) -> None:
        self._split = split
        self.members = [torch.nonzero(split.labels == label).flatten() for label in range(classes)]

    def draw(self, label: int, count: int, generator: torch.Generator) -> Tensor:
        """Return ``count`` random images of a class, as many different ones as there are, shape (count, C, H, W).

        Args:
            label: The class; it must have images.
            count: Number of images.
            generator: Source of the choice, on the CPU.
        """
        members = self.members[label]
        rounds = -(-count // len(members))
        order = torch.cat([torch.randperm(len(members), generator=generator) for _ in range(rounds)])
        return self._split.images(members[order[:count]])
