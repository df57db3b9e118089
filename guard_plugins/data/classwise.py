"""Drawing real images class by class."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from guard_plugins.data.base import Split
from guard_plugins.data.classes import members_by_class
from guard_plugins.data.splits import TensorSplit
from guard_plugins.errors import DataError

RESIDENT: Final = 4 * 2**30
"""Images of up to this many bytes are read once and kept."""


def resident(split: Split, image_shape: tuple[int, int, int], device: torch.device) -> Split:
    """Return the split with its images on the device where they fit into 4 GiB, else itself.

    Args:
        split: Where the images are.
        image_shape: Their shape (C, H, W).
        device: Where they are used.
    """
    size = 4 * len(split) * int(torch.tensor(image_shape).prod())
    in_memory = isinstance(split, TensorSplit) and device.type == "cpu"
    if in_memory or size > RESIDENT:
        return split
    parts = [split.images(index).to(device) for index in torch.arange(len(split)).split(4096)]
    return TensorSplit(torch.cat(parts), split.labels)


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
        self.members = members_by_class(split.labels, classes)

    def draw(self, label: int, count: int, generator: torch.Generator) -> Tensor:
        """Return ``count`` random images of a class, as many different ones as there are, shape (count, C, H, W).

        Args:
            label: The class.
            count: Number of images.
            generator: Source of the choice, on the CPU.

        Raises:
            DataError: If it has none.
        """
        members = self.members[label]
        if not len(members):
            raise DataError(
                f"Class number {label} has no training images",
                seen=f"{len(self._split)} images in {len(self.members)} classes",
                do="Add some, or remove the class.",
            )
        rounds = -(-count // len(members))
        order = torch.cat([torch.randperm(len(members), generator=generator) for _ in range(rounds)])
        return self._split.images(members[order[:count]])
