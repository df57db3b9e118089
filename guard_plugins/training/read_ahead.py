"""Batches of image files that are decoded while the steps before them compute."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Final

from torch import Tensor

if TYPE_CHECKING:
    from guard_plugins.data.base import Split

AHEAD: Final = 2
"""Batches that are read ahead: one hides the reading, a second evens out batches that take longer."""


class ReadAhead:
    """The batches of a loop, the next ones read in a thread where images come from files.

    Which images a step gets is known from the seeds, so what is read does not depend on when. A context manager:
    leaving it ends the reading.

    Args:
        split: Where the images are.
        index: From a step to the positions of its images, int64 of shape (B,); asked in this thread, in order.
        total: Number of steps.
        read: From a step and the positions of its images to these images, which come from files; by default, those of
            the split.
    """

    def __init__(
        self,
        split: Split,
        index: Callable[[int], Tensor],
        total: int,
        read: Callable[[int, Tensor], Tensor] | None = None,
    ) -> None:
        self._split, self._index, self._total = split, index, total
        self._read = read or (lambda step, index: split.images(index))
        in_files = split.from_files or read is not None
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="read-ahead") if in_files else None
        self._waiting: dict[int, tuple[Tensor, Future[Tensor]]] = {}

    def __enter__(self) -> ReadAhead:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._reader is not None:
            self._reader.shutdown(cancel_futures=True)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return the images of a step, float32 in [0, 1] of shape (B, C, H, W), and their labels, both on the CPU.

        Args:
            step: Number of the step, from 0; steps are asked for in order, beginning anywhere.

        Raises:
            DataError: If one of the step's files is broken.
        """
        if self._reader is None:
            index = self._index(step)
            return self._read(step, index), self._split.labels[index]
        for number in range(step, min(step + 1 + AHEAD, self._total)):
            if number not in self._waiting:
                index = self._index(number)
                self._waiting[number] = index, self._reader.submit(self._read, number, index)
        index, images = self._waiting.pop(step)
        return images.result(), self._split.labels[index]
