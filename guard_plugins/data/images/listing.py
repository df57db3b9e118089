"""Finds the image files of a folder tree with one subfolder per class, and says plainly what is wrong with it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from PIL import Image
from torch import Tensor

from guard_plugins.data.classes import members_by_class
from guard_plugins.data.images.decode import EXTENSIONS
from guard_plugins.data.images.splits import Files
from guard_plugins.errors import DataError
from guard_plugins.files import regular

LAYOUT: Final = "Lay the images out as ROOT/train/CLASS/*.png and ROOT/test/CLASS/*.png (or val/)."
"""The remedy most messages end with."""


Identity = tuple[int, int]
"""Device and number of a folder, the same whatever link leads to it."""


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
    in_train, in_test = _by_name(train), _by_name(test)
    if in_train.keys() != in_test.keys():
        raise _different_classes(train, test, tuple(in_train), tuple(in_test))
    classes = _classes(train, in_train)
    return Listing(classes, _files(in_train), _files(in_test))


def list_with_share(root: Path, share: float) -> Listing:
    """Return the files of one class-folder tree, a share of every class held out as test files.

    Which files those are depends on nothing but their paths below the class folder.

    Args:
        root: Folder with one subfolder per class.
        share: Share of every class to hold out, above 0 and below 1.

    Raises:
        DataError: If a class is empty, or too small to be shared out.
    """
    folders = _by_name(root)
    classes, files = _classes(root, folders), _files(folders)
    held = torch.zeros(len(files), dtype=torch.bool)
    by_class = members_by_class(files.labels, len(folders))
    for members, folder in zip(map(Tensor.tolist, by_class), folders.values(), strict=True):
        count = round(share * len(members))
        if not 0 < count < len(members):
            raise DataError(
                f"The class folder {folder} has too few images to hold out a share of {share:g} (--data.split).",
                seen=f"{len(members)} images, {count} of them for the test", do="Add images, or give another share.",
            )  # fmt: skip
        order = {n: _hash(files.paths[n].relative_to(folder)) for n in members}
        held[sorted(members, key=order.__getitem__)[:count]] = True
    return Listing(classes, _chosen(files, ~held), _chosen(files, held))


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


def image_files(folder: Path, others: Collection[Identity] = ()) -> list[Path]:
    """Return the image files below ``folder``, sorted by path; hidden files and folders and other files do not count.

    Links to folders are followed, but no folder is entered twice.

    Args:
        folder: The folder of a class.
        others: Folders whose images are not all of this class, the class's own aside.

    Raises:
        DataError: If a link leads to one of those.
    """
    found: list[Path] = []
    entered: set[tuple[int, int]] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        identity = _identity(parent)
        if identity in entered:
            folders.clear()
            continue
        if identity in others and entered:
            raise DataError(
                f"The link {parent} leads to images of other classes.", seen=f"it is {os.path.realpath(parent)}",
                do="Remove the link.",
            )  # fmt: skip
        entered.add(identity)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(parent, name) for name in names if _is_image(name)]
    return sorted(found)


def _identity(folder: str | Path) -> Identity:
    status = os.stat(folder)  # noqa: PTH116 - once a folder of up to a million
    return status.st_dev, status.st_ino


def _is_image(name: str) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in EXTENSIONS  # noqa: PTH122 - a million times


def _by_name(folder: Path) -> dict[str, Path]:
    """Return the class folders by name, sorted; accents count as one character, as only some file systems keep them.

    Raises:
        DataError: If two names differ in nothing else.
    """
    found: dict[str, Path] = {}
    for name in class_folders(folder):
        if any("\ud800" <= letter <= "\udfff" for letter in name):
            raise DataError(f"{folder} has a class folder whose name is no UTF-8.", seen=f"{name!a}", do="Rename it.")
        same = found.setdefault(unicodedata.normalize("NFC", name), folder / name)
        if same.name != name:
            raise DataError(
                f"Two class folders in {folder} have the same name, written with different characters.",
                seen=f"{same.name!a} and {name!a}", do="Put their images into one folder.",
            )  # fmt: skip
    return dict(sorted(found.items()))


def _classes(folder: Path, folders: Mapping[str, Path]) -> tuple[str, ...]:
    if len(folders) < 2:
        raise DataError(
            f"There are fewer than two classes in {folder}.", seen=f"class folders: {_some(tuple(folders))}", do=LAYOUT
        )
    return tuple(folders)


def _files(folders: Mapping[str, Path]) -> Files:
    paths: list[Path] = []
    counts = []
    known = {_identity(folder): folder for folder in folders.values()}
    others = {*known, *(_identity(folder.parent) for folder in folders.values())}
    for folder in folders.values():
        if (same := known[_identity(folder)]) != folder:
            raise DataError(f"{folder} and {same} are one folder.", do="Remove the link.")
        of_class = image_files(folder, others)
        if not of_class:
            raise DataError(
                f"The class folder {folder} holds no images.",
                seen=f"no file ending in {', '.join(sorted(EXTENSIONS))}",
                do="Add images, or remove the class from every split.",
            )
        paths += of_class
        counts.append(len(of_class))
    return Files(tuple(paths), torch.arange(len(folders)).repeat_interleave(torch.tensor(counts)))


def _chosen(files: Files, mask: torch.Tensor) -> Files:
    return Files(tuple(files.paths[n] for n in torch.nonzero(mask).flatten().tolist()), files.labels[mask])


def _hash(path: Path) -> bytes:
    return hashlib.blake2b(unicodedata.normalize("NFC", path.as_posix()).encode("utf-8", "surrogateescape")).digest()


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


_UNREADABLE: Final = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


def count_images(root: Path, most: int) -> int:
    """Return how many images lie below ``root``, hidden ones aside, and ``most`` where there are more."""
    count = 0
    for _, files in _walked(root):
        count += sum(_is_image(name) for name in files)
        if count >= most:
            return most
    return count


def first_side(root: Path) -> int | None:
    """Return the shorter side in pixels of the first image in a class folder of ``root``; None without one."""
    for folder, files in _walked(root):
        for name in sorted(filter(_is_image, files)) if folder != root else ():
            with contextlib.suppress(*_UNREADABLE), Image.open(regular(folder / name)) as image:
                return min(image.size)
    return None


def _walked(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield folders and their files, sorted, hidden ones aside; links are followed, and no folder is entered twice."""
    entered = set[Identity]()
    for folder, names, files in os.walk(root, followlinks=True):
        identity = _identity(folder)
        names[:] = [] if identity in entered else sorted(name for name in names if not name.startswith("."))
        if identity not in entered:
            entered.add(identity)
            yield Path(folder), files
