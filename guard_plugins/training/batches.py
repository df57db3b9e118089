"""The order in which a loop sees its images, derived from the seeds so that it can start at any step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from guard_plugins.data.base import Split
    from guard_plugins.runtime.seeds import Seeds


def epoch_order(n: int, seeds: Seeds, stage: str, epoch: int) -> Tensor:
    """Return the order of one epoch, a permutation of 0..n-1 (int64) that depends on its arguments only.

    Args:
        n: Number of images.
        seeds: The seeds of the run.
        stage: Name of the loop.
        epoch: Number of the epoch, from 0.
    """
    return torch.randperm(n, generator=seeds.generator(stage, "order", epoch))


class EpochBatches:
    """The batches of a loop over shuffled epochs, by step; images that do not fill a batch are left out of the epoch.

    Attributes:
        size: Images per batch: the requested size, or all images where there are fewer.
        per_epoch: Batches per epoch.

    Args:
        n: Number of images.
        size: Requested images per batch.
        seeds: The seeds of the run.
        stage: Name of the loop.
    """

    def __init__(self, n: int, size: int, *, seeds: Seeds, stage: str) -> None:
        self.size = min(size, n)
        self.per_epoch = n // self.size
        self._n, self._seeds, self._stage = n, seeds, stage
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)

    def index(self, step: int) -> Tensor:
        """Return the images of step ``step`` (from 0, over all epochs), int64 of shape (size,)."""
        epoch, position = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, epoch_order(self._n, self._seeds, self._stage, epoch)
        return self._order[position * self.size : (position + 1) * self.size]


def in_order(split: Split, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield all images and labels of a split, in its own order, ``size`` at a time (the last batch may be smaller).

    Args:
        split: What to go through.
        size: Images per batch.

    Yields:
        Images in [0, 1], shape (B, C, H, W), and labels, int64 of shape (B,).
    """
    for index in torch.arange(len(split)).split(size):
        yield split.images(index), split.labels[index]
