"""A first look at a folder of images, before it is listed: how many there are, and how large the first is."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from PIL import Image

from guard_plugins.data.images.decode import opened
from guard_plugins.data.images.strays import Identity, identity_of, is_image

_UNREADABLE: Final = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


def count_images(root: Path, most: int) -> int:
    """Return how many images lie below ``root``, hidden ones aside, and ``most`` where there are more."""
    count = 0
    for _, files in _walked(root):
        count += sum(is_image(name) for name in files)
        if count >= most:
            return most
    return count


def first_side(root: Path) -> int | None:
    """Return the shorter side in pixels of the first image in a class folder of ``root``; None without one."""
    for folder, files in _walked(root):
        for name in sorted(filter(is_image, files)) if folder != root else ():
            with contextlib.suppress(*_UNREADABLE), opened(folder / name) as image:
                return min(image.size)
    return None


def _walked(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield folders and their files, sorted, hidden ones aside; links are followed, and no folder is entered twice."""
    entered = set[Identity]()
    for folder, names, files in os.walk(root, followlinks=True):
        identity = identity_of(folder)
        names[:] = [] if identity in entered else sorted(name for name in names if not name.startswith("."))
        if identity not in entered:
            entered.add(identity)
            yield Path(folder), files
