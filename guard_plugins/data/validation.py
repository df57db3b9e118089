"""Training images set aside, so that settings can be chosen without a look at the test images."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from guard_plugins.data.base import Data, Split
from guard_plugins.data.classes import members_by_class
from guard_plugins.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor


class Subset(Split):
    """Some images of another split.

    Args:
        whole: Where the images are.
        index: Positions of the images in ``whole``, int64 of shape (N,).
    """

    def __init__(self, whole: Split, index: Tensor) -> None:
        self._whole, self._index = whole, index
        self.labels, self.from_files = whole.labels[index], whole.from_files
        self.originals = None if whole.originals is None else whole.originals.part(index)

    def images(self, index: Tensor) -> Tensor:
        """Return the images at ``index`` (int64, shape (B,)) as float32 in [0, 1], shape (B, C, H, W)."""
        return self._whole.images(self._index[index])


def with_validation(data: Data, per_class: int | None) -> Data:
    """Return the data with the last ``per_class`` training images of every class in place of the test images.

    Mean and standard deviation stay those of the data set; its name says what it is now.

    Args:
        data: The data set.
        per_class: Images of a class to set aside, or None for the data as they are.

    Raises:
        DataError: If that would leave a class without training images.
    """
    if per_class is None:
        return data
    kept, held = [], []
    by_class = members_by_class(data.train.labels, len(data.classes))
    for name, members in zip(data.classes, by_class, strict=True):
        if len(members) <= per_class:
            raise DataError(
                f"Class {name!r} has too few training images to set {per_class} of them aside.",
                seen=f"{len(members)} training images", do="Lower --data.validation-per-class.",
            )  # fmt: skip
        kept.append(members[:-per_class])
        held.append(members[-per_class:])
    train, test = (torch.cat(part).sort().values for part in (kept, held))
    name = f"{data.name}, {per_class} held-out training images per class"
    return replace(data, name=name, train=Subset(data.train, train), test=Subset(data.train, test))
