"""Decoded images in one file: made once, read from the disk by every run, the same bits as decoding them."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import PIL
import torch

from guard_plugins.data.base import Split
from guard_plugins.data.images.splits import Files, decode_all
from guard_plugins.errors import DataError
from guard_plugins.files import regular

if TYPE_CHECKING:
    from torch import Tensor

    from guard_plugins.data.images.target import Target

PART: Final = 4096
"""Images that are decoded and written together."""


class PackedSplit(Split):
    """Images that lie decoded in a file.

    Args:
        labels: Class of every image.
        pixels: The images, uint8 of shape (N, C, H, W), mapped from the file.
        sums: The CRC-32 of each, uint32 of shape (N,).
        path: The file, for errors.
    """

    from_files = True

    def __init__(self, labels: Tensor, pixels: np.ndarray, sums: np.ndarray, path: Path) -> None:
        self.labels, self._pixels, self._sums, self._path = labels, pixels, sums, path

    def images(self, index: Tensor) -> Tensor:
        """Return the images at ``index`` (int64, shape (B,)) as float32 in [0, 1], shape (B, C, H, W).

        Raises:
            DataError: If one of them is no longer what was written.
        """
        rows = index.numpy()
        chosen = np.ascontiguousarray(self._pixels[rows])
        for row, image in zip(rows, chosen, strict=True):
            if zlib.crc32(image) != self._sums[row]:
                raise DataError(
                    f"The packed images in {self._path} are damaged.",
                    seen=f"image {row} is not what was written",
                    do="Delete the file; the next run makes it anew from the images.",
                )
        return torch.from_numpy(chosen).float().div_(255)


def packed(files: Files, target: Target, folder: Path) -> PackedSplit:
    """Return the split of ``files`` from the folder's file of them, which is made where there is none.

    The file belongs to these paths, sizes and times of change, to the target and to the version of Pillow.

    Args:
        files: Paths and labels.
        target: What every image is turned into.
        folder: Where such files are; made if need be.

    Raises:
        DataError: If an image is broken, or the file cannot be written.
    """
    name = _key(files, target)
    path, sums = folder / f"{name}.npy", folder / f"{name}.crc32.npy"
    shape = (len(files), target.channels, target.height, target.width)
    found = _opened(path, sums, shape)
    if found is None:
        with _writing(folder):
            _pack(files, target, shape, path, sums)
        found = _opened(path, sums, shape)
    if found is None:
        raise DataError(
            f"The packed images in {path} cannot be read back.", do="Delete the file, or name another --data.cache."
        )
    return PackedSplit(files.labels, *found, path)


def _key(files: Files, target: Target) -> str:
    state = hashlib.blake2b(repr((PIL.__version__, astuple(target))).encode(), digest_size=16)
    for file in files.paths:
        known = file.stat()
        state.update(f"{file.absolute()}\0{known.st_size}\0{known.st_mtime_ns}\0".encode("utf-8", "surrogateescape"))
    return state.hexdigest()


def _opened(path: Path, sums: Path, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray] | None:
    """Return both files' contents if they are there and whole."""
    try:
        pixels = np.load(regular(path), mmap_mode="r", allow_pickle=False)
        crc = np.load(regular(sums), allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    fits = pixels.shape == shape and pixels.dtype == np.uint8 and crc.shape == shape[:1] and crc.dtype == np.uint32
    return (pixels, crc) if fits else None


def _pack(files: Files, target: Target, shape: tuple[int, ...], path: Path, sums: Path) -> None:
    needed, free = int(np.prod(shape)), shutil.disk_usage(path.parent).free
    if needed > free:
        raise DataError(
            "The decoded images do not fit on the disk (--data.cache).",
            seen=f"{needed:,} bytes needed, {free:,} free in {path.parent}",
            do="Name a folder on a larger disk, lower --data.image-size, or leave --data.cache out.",
        )
    crc = np.empty(shape[0], np.uint32)
    with _part(path) as part:
        pixels = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=shape)
        for start in range(0, shape[0], PART):
            images = decode_all(files.paths[start : start + PART], target).numpy()
            pixels[start : start + PART] = images
            crc[start : start + PART] = [zlib.crc32(image) for image in images]
        pixels.flush()
    with _part(sums) as part, part.open("wb") as file:  # last: a file of pixels without its sums is made anew
        np.save(file, crc, allow_pickle=False)


@contextmanager
def _part(path: Path) -> Iterator[Path]:
    """Yield the path of a new file beside ``path``, which takes its place when all has gone well."""
    number, name = tempfile.mkstemp(prefix=f"{path.name}.", suffix=".part", dir=path.parent)
    os.close(number)
    try:
        yield Path(name)
        os.replace(name, path)  # noqa: PTH105 - over a file or a link, never through it
    finally:
        Path(name).unlink(missing_ok=True)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Make the folder, and turn what the system refuses into an error of ours.

    Raises:
        DataError: If it refuses.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise DataError(
            f"Cannot write packed images into {folder} (--data.cache).", seen=error.strerror or str(error),
            do="Name a folder that can be written and has room.",
        ) from error  # fmt: skip
