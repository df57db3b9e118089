"""The images of an evaluation: a tensor, or a selection of a split that is read batch by batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from guard_plugins.data.base import Split


class Images(Protocol):
    """What an evaluation asks of its images, (N, C, H, W) in [0, 1]; a tensor has it."""

    @property
    def device(self) -> torch.device:
        """Where the images come from."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Tensor: ...

    def split(self, size: int, /) -> Iterable[Tensor]:
        """Return the images in batches of ``size``, the last of what is left."""


class SelectedImages:
    """Images of a split, read when they are asked for.

    Attributes:
        device: The CPU.

    Args:
        split: Where they are.
        index: Their positions, int64 of shape (N,).
    """

    device = torch.device("cpu")

    def __init__(self, split: Split, index: Tensor) -> None:
        self._split, self._index = split, index

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: Any) -> Tensor:
        return self._split.images(self._index[index])

    def split(self, size: int) -> Iterator[Tensor]:
        """Yield the images in batches of ``size``, the last of what is left."""
        for part in self._index.split(size):
            yield self._split.images(part)
