"""Splits that come from image files: decoded into memory while they fit, on demand where they do not."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from guard_plugins.data.base import Originals, Split
from guard_plugins.data.boxes import BoxNumbers, boxes_in
from guard_plugins.data.images.decode import FULL_RANGE, Header, decode, read_extremes, read_header
from guard_plugins.data.images.target import Target
from guard_plugins.data.splits import TensorSplit, first_per_class
from guard_plugins.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import Tensor

    from guard_plugins.data.images.target import Box

_SMALL: Final = Target(channels=3, height=1, width=1, crop=1.0, levels=FULL_RANGE)  # an unknown range is no damage
_RUN: Final = 128  # files a thread takes at a time: one task a file would cost more in queueing than small images do


@dataclass(frozen=True)
class Files:
    """The image files of a split.

    Attributes:
        paths: The files, in a defined order.
        labels: Class index of each, int64 of shape (N,).
    """

    paths: tuple[Path, ...]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.paths)

    def limited(self, per_class: int | None) -> Files:
        """Return the first ``per_class`` files of every class, or all of them for None."""
        kept = first_per_class(self.labels, per_class)
        return Files(tuple(self.paths[i] for i in kept.tolist()), self.labels[kept])


class FileSplit(Split):
    """A split too large for memory, whose images are decoded whenever they are asked for.

    Args:
        files: Paths and labels.
        target: What every image is turned into.
    """

    from_files = True

    def __init__(self, files: Files, target: Target) -> None:
        self.labels = files.labels
        self._paths, self._target = files.paths, target

    def images(self, index: Tensor) -> Tensor:
        """Return the images at ``index`` (int64, shape (B,)) as float32 in [0, 1], shape (B, C, H, W).

        Raises:
            DataError: If one of the files is broken.
        """
        chosen = [self._paths[i] for i in index.tolist()]
        return decode_all(chosen, self._target, run=4).float().div_(255)


class FileOriginals(Originals):
    """The files of a split, of which any part can be decoded.

    Args:
        files: Paths and labels.
        target: What every box is turned into.
    """

    def __init__(self, files: Files, target: Target) -> None:
        self._files, self._target = files, target

    def crops(self, index: Tensor, numbers: BoxNumbers, ratio: tuple[float, float]) -> Tensor:
        """Return a box of every image, resized to the size of the set: float32 in [0, 1], shape (B, C, H, W).

        Args:
            index: Which images, int64 of shape (B,).
            numbers: What the boxes follow from, for B images.
            ratio: Range of their width over their height.

        Raises:
            DataError: If one of the files is broken.
        """
        chosen = [self._files.paths[i] for i in index.tolist()]

        def cut(number: int, width: int, height: int) -> Box:
            one = BoxNumbers(*(field[..., number : number + 1] for field in numbers))
            top, left, rows, columns = (int(value) for value in boxes_in((height, width), one, ratio))
            return left, top, left + columns, top + rows

        return decode_all(chosen, self._target, run=4, cut=cut).float().div_(255)

    def part(self, index: Tensor) -> FileOriginals:
        """Return those of some of the images (int64, shape (N,))."""
        paths = tuple(self._files.paths[i] for i in index.tolist())
        return FileOriginals(Files(paths, self._files.labels[index]), self._target)


def read_split(files: Files, target: Target, *, in_memory: bool) -> Split:
    """Return the split of ``files``, decoded at once or on demand.

    Args:
        files: Paths and labels.
        target: What every image is turned into.
        in_memory: Whether to decode at once.

    Raises:
        DataError: If ``in_memory`` and any file is broken.
    """
    return TensorSplit(decode_all(files.paths, target), files.labels) if in_memory else FileSplit(files, target)


def readable(files: Files, classes: Sequence[str]) -> tuple[Files, tuple[Path, ...]]:
    """Return the files that can be decoded, and the paths of the others; each is read to its end.

    Args:
        files: Paths and labels.
        classes: Names of the classes.

    Raises:
        DataError: If a class loses all its images.
    """
    kept = np.ones(len(files), bool)

    def work(i: int) -> None:
        try:
            decode(files.paths[i], _SMALL)
        except DataError:
            kept[i] = False

    _for_each(len(files), work, _RUN)
    index = np.flatnonzero(kept)
    left = Files(tuple(files.paths[i] for i in index), files.labels[torch.from_numpy(index)])
    counts = torch.bincount(left.labels, minlength=len(classes)).tolist()
    for label, name in enumerate(classes):
        if not counts[label]:
            first = files.paths[int((files.labels == label).nonzero()[0])]
            raise DataError(
                f"No image of class {name!r} in {first.parent} can be read.",
                seen=f"{len(files) - len(left)} of {len(files)} files are broken, such as {first}",
                do="Get the images anew, or remove the class from every split.",
            )
    return left, tuple(path for path, good in zip(files.paths, kept, strict=True) if not good)


def read_headers(paths: Sequence[Path]) -> list[Header]:
    """Return the header of every file, in order.

    Raises:
        DataError: If any file is not an image.
    """
    headers: list[Header | None] = [None] * len(paths)

    def work(i: int) -> None:
        headers[i] = read_header(paths[i])

    _for_each(len(paths), work, _RUN)
    return [header for header in headers if header is not None]


def read_all_extremes(paths: Sequence[Path]) -> tuple[float, float]:
    """Return the smallest and the largest number in any of the files.

    Raises:
        DataError: If any file is broken.
    """
    found = np.empty((len(paths), 2))

    def work(i: int) -> None:
        found[i] = read_extremes(paths[i])

    _for_each(len(paths), work, _RUN)
    return float(found[:, 0].min()), float(found[:, 1].max())


def decode_all(
    paths: Sequence[Path],
    target: Target,
    *,
    run: int = _RUN,
    cut: Callable[[int, int, int], Box] | None = None,
) -> Tensor:
    """Return the decoded images, uint8 of shape (N, C, H, W).

    Args:
        paths: The files.
        target: What every image is turned into.
        run: How many files a thread takes at a time.
        cut: From the number of a file and its width and height to the part of it that is decoded; None for what the
            target says.

    Raises:
        DataError: If any file is broken; all broken files are counted, the first of them is described.
    """
    # Filled through NumPy: a tensor assignment per file would cost as much as decoding a small image.
    pixels = np.empty((len(paths), target.channels, target.height, target.width), np.uint8)

    def work(i: int) -> None:
        pixels[i] = decode(paths[i], target, cut=None if cut is None else partial(cut, i))

    _for_each(len(paths), work, run)
    return torch.from_numpy(pixels)


def _for_each(count: int, work: Callable[[int], None], run: int) -> None:
    """Call ``work`` for 0..count-1 on a pool of threads, and report all its `DataError`s as one."""

    def chunk(start: int) -> list[DataError]:
        errors = []
        for i in range(start, min(start + run, count)):
            try:
                work(i)
            except DataError as error:
                errors.append(error)
        return errors

    with ThreadPoolExecutor(min(32, os.cpu_count() or 1)) as pool:
        errors = [error for found in pool.map(chunk, range(0, count, run)) for error in found]
    if len(errors) == 1:
        raise errors[0]
    if errors:
        first = errors[0]
        others = f"{first.seen}; {len(errors)} of {count} files fail, the next is: {errors[1].what}"
        raise DataError(first.what, seen=others, do=first.do)
