"""The images of every class, found in one pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def members_by_class(labels: Tensor, classes: int) -> list[Tensor]:
    """Return the positions of every class's images, in their order, int64; a class may have none.

    One sort: a scan for each of 1,000 classes takes seconds on 1.28 million labels.

    Args:
        labels: Class of every image, int64 of shape (N,), from 0.
        classes: Number of classes; labels from there on are passed over.
    """
    counts = labels.bincount(minlength=classes).tolist()
    return list(labels.argsort(stable=True).split(counts))[:classes]
