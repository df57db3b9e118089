"""Turns a listing of image files into a data set: one size, one number of channels, in memory or on demand."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from guard_plugins.data.base import Data, DataRequest
from guard_plugins.data.images import constants
from guard_plugins.data.images.decode import Header
from guard_plugins.data.images.levels import levels_of
from guard_plugins.data.images.packed import packed
from guard_plugins.data.images.splits import FileOriginals, read_headers, read_split, readable
from guard_plugins.data.images.statistics import channel_statistics
from guard_plugins.data.images.target import Target
from guard_plugins.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from guard_plugins.data.images.listing import Listing


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
        DataError: If a file is broken, sizes differ and none was requested, or the range of deep images is not known.
    """
    train, test = listing.train.limited(request.train_per_class), listing.test.limited(request.test_per_class)
    skipped: tuple[str, ...] = ()
    if request.skip_corrupt:
        (train, broken), (test, more) = readable(train, listing.classes), readable(test, listing.classes)
        skipped = tuple(map(str, (*broken, *more)))
    notes = listing.notes
    if train_target is None:
        paths = (*train.paths, *test.paths)
        headers = read_headers(paths)
        levels, notes = levels_of(paths, headers, request.range), (*notes, *rotation_notes(paths, headers))
        target = common_target(paths, headers, request.image_size)
        target = replace(target, levels=levels, reduced=request.reduced_decode)
        _require_reducible(headers, target)
    else:
        request.refuse(name, "range")
        target = train_target
    shape = (target.channels, target.height, target.width)
    in_memory = (len(train) + len(test)) * shape[0] * shape[1] * shape[2] <= request.memory * 2**30
    train_split, test_split = (
        packed(files, wanted, request.cache)
        if request.cache is not None
        else read_split(files, wanted, in_memory=in_memory)
        for files, wanted in ((train, target), (test, test_target or target))
    )
    train_split.originals = FileOriginals(train, target)
    mean, std = statistics or channel_statistics(train_split)
    return Data(name, train_split, test_split, listing.classes, mean, std, shape, skipped, notes)


def common_target(paths: Sequence[Path], headers: Sequence[Header], image_size: int | None) -> Target:
    """Return what all files can be turned into: grey only if every file is, and of one size.

    Args:
        paths: Files of every split.
        headers: What each says of itself.
        image_size: Requested side in pixels: the central square of each image is resized to it. None keeps the size
            that all files share.

    Raises:
        DataError: If sizes differ and ``image_size`` is None.
    """
    channels = 1 if all(header.grey for header in headers) else 3
    if image_size is not None:
        return Target(channels=channels, height=image_size, width=image_size, crop=1.0)
    sizes = Counter((header.height, header.width) for header in headers)
    if len(sizes) > 1:
        raise _sizes_differ(paths, headers, sizes)
    ((height, width),) = sizes
    return Target(channels=channels, height=height, width=width)


def _require_reducible(headers: Sequence[Header], target: Target) -> None:
    """Refuse to be asked for a reduced decoding that no file allows."""
    if not target.reduced or any(header.jpeg and target.scale(header.width, header.height) > 1 for header in headers):
        return
    largest = max(headers, key=lambda header: (header.jpeg, min(header.width, header.height)))
    size = f"{largest.width}x{largest.height} pixels" if largest.jpeg else "no JPEG at all"
    raise DataError(
        "--data.reduced-decode is for JPEGs of at least twice the size that is asked for, and there are none.",
        seen=f"the largest JPEG: {size}; asked for: {target.width}x{target.height}",
        do="Leave it out." if target.crop else "Pass --data.image-size too, or leave it out.",
    )


def rotation_notes(paths: Sequence[Path], headers: Sequence[Header]) -> tuple[str, ...]:
    """Return a sentence on files whose Exif data ask for a rotation, or nothing where there are none.

    Args:
        paths: The files.
        headers: What each says of itself.
    """
    turned = [path for path, header in zip(paths, headers, strict=True) if header.rotated]
    if not turned:
        return ()
    return (
        f"{len(turned)} of {len(paths)} images carry an Exif rotation, such as {turned[0]}; their pixels are used as "
        "they are stored, as torchvision's ImageFolder does",
    )


def _sizes_differ(
    paths: Sequence[Path], headers: Sequence[Header], sizes: Counter[tuple[int, int]]
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
