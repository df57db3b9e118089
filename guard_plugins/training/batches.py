"""The order in which a loop sees its images; it follows from the seeds alone, so a loop can start at any step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
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
    """The batches of a loop over shuffled epochs; in each epoch the images that do not fill a batch are left out.

    Attributes:
        size: Images per batch: as requested, or all images if there are fewer.
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
        """Return the indices of the images of step ``step``, counted over all epochs from 0, int64 of shape (size,)."""
        epoch, position = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, epoch_order(self._n, self._seeds, self._stage, epoch)
        return self._order[position * self.size : (position + 1) * self.size]
