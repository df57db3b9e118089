"""Finds the image files of a folder tree with one subfolder per class, and says plainly what is wrong with it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from guard_plugins.data.images.decode import EXTENSIONS
from guard_plugins.data.images.splits import Files
from guard_plugins.errors import DataError

LAYOUT = "Lay the images out as ROOT/train/CLASS/*.png and ROOT/test/CLASS/*.png (or val/)."
"""The remedy most messages end with."""


@dataclass(frozen=True)
class Listing:
    """The files of both splits.

    Attributes:
        classes: Names of the classes, in the order of the labels.
        train: Files to train on.
        test: Files to test on.
    """

    classes: tuple[str, ...]
    train: Files
    test: Files


def list_classes(train: Path, test: Path) -> Listing:
    """Return the files of two class-folder trees, classes and files in alphabetical order.

    Args:
        train: Folder with one subfolder per class.
        test: The same classes again.

    Raises:
        DataError: If a folder or class is missing or empty, or the classes of the two differ.
    """
    classes = class_folders(train)
    in_test = class_folders(test)
    if classes != in_test:
        raise _different_classes(train, test, classes, in_test)
    if len(classes) < 2:
        raise DataError(
            f"There are fewer than two classes in {train}.", seen=f"class folders: {_some(classes)}", do=LAYOUT
        )
    return Listing(classes, _files(train, classes), _files(test, classes))


def class_folders(folder: Path) -> tuple[str, ...]:
    """Return the names of the class folders in ``folder``, sorted; hidden ones do not count.

    Raises:
        DataError: If the folder cannot be listed.
    """
    try:
        return tuple(
            sorted(child.name for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
        )
    except OSError as error:
        raise DataError(
            f"The folder {folder} cannot be read.", seen=f"{type(error).__name__}: {error}", do=LAYOUT
        ) from error


def image_files(folder: Path) -> list[Path]:
    """Return the image files below ``folder``, sorted by path; hidden and other files do not count."""
    found = [
        Path(parent, name)
        for parent, _, names in os.walk(folder, followlinks=True)
        for name in names
        if not name.startswith(".") and os.path.splitext(name)[1].lower() in EXTENSIONS  # noqa: PTH122 - a million times
    ]
    return sorted(found)


def _files(folder: Path, classes: tuple[str, ...]) -> Files:
    paths: list[Path] = []
    counts = []
    for name in classes:
        of_class = image_files(folder / name)
        if not of_class:
            raise DataError(
                f"The class folder {folder / name} holds no images.",
                seen=f"no file ending in {', '.join(sorted(EXTENSIONS))}",
                do="Add images, or remove the class from every split.",
            )
        paths += of_class
        counts.append(len(of_class))
    return Files(tuple(paths), torch.arange(len(classes)).repeat_interleave(torch.tensor(counts)))


def _different_classes(train: Path, test: Path, in_train: tuple[str, ...], in_test: tuple[str, ...]) -> DataError:
    only_train, only_test = set(in_train) - set(in_test), set(in_test) - set(in_train)
    seen = [f"only in {train}: {_some(only_train)}"] if only_train else []
    seen += [f"only in {test}: {_some(only_test)}"] if only_test else []
    return DataError(
        f"The classes of {train} and {test} differ.",
        seen="; ".join(seen),
        do="Give both folders the same class subfolders.",
    )


def _some(names: set[str] | tuple[str, ...]) -> str:
    """Return the first few names for a message."""
    first = sorted(names)[:5]
    rest = len(names) - len(first)
    return (", ".join(first) or "none") + (f" and {rest} more" if rest else "")
