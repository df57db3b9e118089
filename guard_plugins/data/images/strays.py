"""What lies in a tree of class folders and is no image of a class: links that lead astray, and other files."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from guard_plugins.data.images.decode import EXTENSIONS
from guard_plugins.errors import DataError

_NO_PICTURES: Final = frozenset({
    ".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".md", ".html", ".htm", ".log", ".py", ".mat",
    ".ini", ".db", ".lnk", ".url",
})  # fmt: skip
"""Endings of notes, tables and what file managers leave: nobody takes them for images."""


def is_image(name: str) -> bool:
    """Return whether a file of this name is read as an image."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in EXTENSIONS  # noqa: PTH122 - a million times


class LeftOut:
    """What may be images and is not read."""

    def __init__(self) -> None:
        self._endings: Counter[str] = Counter()
        self._beside: Counter[str] = Counter()
        self._first = ""

    def add(self, folder: str, names: Iterable[str]) -> None:
        """Take down those of the files in a class folder that have no ending of an image.

        Args:
            folder: The folder.
            names: All its files.
        """
        for name in sorted(names):
            ending = os.path.splitext(name)[1].lower()  # noqa: PTH122 - a million times
            if name.startswith(".") or is_image(name) or ending in _NO_PICTURES:
                continue
            self._endings[ending] += 1
            self._first = self._first or str(Path(folder, name))

    def beside_classes(self, root: Path) -> None:
        """Take down the images that lie beside the class folders, so that they are of no class."""
        self._beside[str(root)] = sum(is_image(child.name) and child.is_file() for child in root.iterdir())

    def notes(self) -> tuple[str, ...]:
        """Return a sentence for each kind."""
        notes = []
        if self._endings:
            kinds = ", ".join(f"{count} {ending or 'without one'}" for ending, count in self._endings.most_common(5))
            notes.append(
                f"{self._endings.total()} files in class folders are not read, as their endings are none of an "
                f"image's: {kinds}; such as {self._first}"
            )
        notes += [
            f"{count} images in {root} are not read, as they lie in no class folder"
            for root, count in self._beside.items()
            if count
        ]
        return tuple(notes)


Identity = tuple[int, int]
"""Device and number of a folder, the same whatever link leads to it."""


def identity_of(folder: str | Path) -> Identity:
    """Return what a folder is, whatever link leads to it."""
    status = os.stat(folder)  # noqa: PTH116 - once a folder of up to a million
    return status.st_dev, status.st_ino


def require_whole_links(folder: Path) -> None:
    """Refuse a link beside the class folders that leads nowhere: a class may be missing, if it is no file's name.

    Raises:
        DataError: If there is one.
    """
    for child in folder.iterdir():
        a_file = child.suffix.lower() in EXTENSIONS | _NO_PICTURES
        if child.is_symlink() and not (a_file or child.name.startswith(".") or child.exists()):
            raise DataError(
                f"The link {child} leads nowhere, so a class may be missing.", seen=f"it says {child.readlink()}",
                do="Correct it, or remove it.",
            )  # fmt: skip


def require_apart(train: Mapping[str, Path], test: Mapping[str, Path]) -> None:
    """Refuse a folder that is in both splits: the test images would be those that are trained on.

    Args:
        train: Class folders of the training split, by name.
        test: Those of the test split.

    Raises:
        DataError: If there is one.
    """
    known = {identity_of(folder): folder for folder in train.values()}
    for folder in test.values():
        if (same := known.get(identity_of(folder))) is not None:
            raise DataError(
                f"{same} and {folder} are one folder, so the test images would be those that are trained on.",
                seen=f"it is {os.path.realpath(folder)}",
                do="Give the test images a folder of their own, or remove the link and pass --data.split 0.2.",
            )
