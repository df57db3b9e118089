"""Turns a listing of image files into a data set: one size, one number of channels, in memory or on demand."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from guard_plugins.data.base import Data, DataRequest
from guard_plugins.data.images import constants
from guard_plugins.data.images.decode import Header, Target
from guard_plugins.data.images.splits import read_headers, read_split, sound
from guard_plugins.data.images.statistics import channel_statistics
from guard_plugins.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from guard_plugins.data.images.listing import Listing

IN_MEMORY_BYTES: Final = 4 * 2**30
"""Sets whose decoded bytes exceed this are decoded on demand."""


def assemble(
    name: str,
    listing: Listing,
    request: DataRequest,
    *,
    train_target: Target | None = None,
    test_target: Target | None = None,
    statistics: constants.Statistics | None = None,
) -> Data:
    """Return the data set of the listed files.

    Args:
        name: Name of the set in reports.
        listing: Classes and files of both splits.
        request: Limits per class, and the size where no targets are given.
        train_target: What training images are turned into; None looks at every file and decides.
        test_target: The same for test images; None means as in training.
        statistics: Published mean and standard deviation; None measures them on the training images.

    Raises:
        DataError: If a file is broken, or sizes differ and none was requested.
    """
    train, test = listing.train.limited(request.train_per_class), listing.test.limited(request.test_per_class)
    skipped: tuple[str, ...] = ()
    if request.skip_corrupt:
        (train, broken), (test, more) = sound(train, listing.classes), sound(test, listing.classes)
        skipped = tuple(map(str, (*broken, *more)))
    target = train_target or common_target((*train.paths, *test.paths), request.image_size)
    shape = (target.channels, target.height, target.width)
    in_memory = (len(train) + len(test)) * shape[0] * shape[1] * shape[2] <= IN_MEMORY_BYTES
    train_split = read_split(train, target, in_memory=in_memory)
    test_split = read_split(test, test_target or target, in_memory=in_memory)
    mean, std = statistics or channel_statistics(train_split)
    return Data(name, train_split, test_split, listing.classes, mean, std, shape, skipped)


def common_target(paths: tuple[Path, ...], image_size: int | None) -> Target:
    """Return what all files can be turned into: grey only if every file is, and of one size.

    Args:
        paths: Files of every split.
        image_size: Requested side in pixels: the central square of each image is resized to it. None keeps the size
            that all files share.

    Raises:
        DataError: If a file is not an image, or sizes differ and ``image_size`` is None.
    """
    headers = read_headers(paths)
    channels = 1 if all(header.grey for header in headers) else 3
    if image_size is not None:
        return Target(channels=channels, height=image_size, width=image_size, crop=1.0)
    sizes = Counter((header.height, header.width) for header in headers)
    if len(sizes) > 1:
        raise _sizes_differ(paths, headers, sizes)
    ((height, width),) = sizes
    return Target(channels=channels, height=height, width=width)


def _sizes_differ(
    paths: tuple[Path, ...], headers: list[Header], sizes: Counter[tuple[int, int]]
) -> DataError:  # fmt: skip
    examples = {(header.height, header.width): path for path, header in zip(paths, headers, strict=True)}
    commonest = "; ".join(
        f"{count} of {height}x{width} (such as {examples[height, width]})"
        for (height, width), count in sizes.most_common(2)
    )
    smallest = min(min(size) for size in sizes)
    return DataError(
        "The images are not all of one size.",
        seen=f"{len(sizes)} sizes (height x width): {commonest}",
        do=f"Pass --data.image-size N to resize the central square of every image to NxN pixels; "
        f"the shortest side here is {smallest}.",
    )
