"""Finds the image files of a folder tree with one subfolder per class, and says plainly what is wrong with it."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from guard_plugins.data.classes import members_by_class
from guard_plugins.data.images.decode import EXTENSIONS
from guard_plugins.data.images.splits import Files
from guard_plugins.data.images.strays import (
    Identity,
    LeftOut,
    identity_of,
    is_image,
    require_apart,
    require_whole_links,
)  # fmt: skip
from guard_plugins.errors import DataError

LAYOUT: Final = "Lay the images out as ROOT/train/CLASS/*.png and ROOT/test/CLASS/*.png (or val/)."
"""The remedy most messages end with."""


@dataclass(frozen=True)
class Listing:
    """The files of both splits.

    Attributes:
        classes: Names of the classes, in the order of the labels.
        train: Files to train on.
        test: Files to test on.
        notes: Sentences on what was left out.
    """

    classes: tuple[str, ...]
    train: Files
    test: Files
    notes: tuple[str, ...] = ()


def list_classes(train: Path, test: Path) -> Listing:
    """Return the files of two class-folder trees, classes and files in alphabetical order.

    Args:
        train: Folder with one subfolder per class.
        test: The same classes again.

    Raises:
        DataError: If a folder or class is missing or empty, the classes of the two differ, or a folder is in both.
    """
    in_train, in_test = _by_name(train), _by_name(test)
    if in_train.keys() != in_test.keys():
        raise _different_classes(train, test, tuple(in_train), tuple(in_test))
    require_apart(in_train, in_test)
    classes, left_out = _classes(train, in_train), LeftOut()
    files = _files(in_train, left_out), _files(in_test, left_out)
    left_out.beside_classes(train)
    left_out.beside_classes(test)
    return Listing(classes, *files, left_out.notes())


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
    left_out = LeftOut()
    classes, files = _classes(root, folders), _files(folders, left_out)
    left_out.beside_classes(root)
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
    return Listing(classes, _chosen(files, ~held), _chosen(files, held), left_out.notes())


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


def image_files(
    folder: Path, others: Collection[Identity] = (), left_out: LeftOut | None = None
) -> list[Path]:  # fmt: skip
    """Return the image files below ``folder``, sorted by path; hidden files and folders and other files do not count.

    Links to folders are followed, but no folder is entered twice.

    Args:
        folder: The folder of a class.
        others: Folders whose images are not all of this class, the class's own aside.
        left_out: Takes down the other files.

    Raises:
        DataError: If a link leads to one of those, or a folder cannot be read.
    """
    found: list[Path] = []
    entered: set[tuple[int, int]] = set()
    for parent, folders, names in os.walk(folder, onerror=_unreadable, followlinks=True):
        identity = identity_of(parent)
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
        images = [name for name in names if is_image(name)]
        found += [Path(parent, name) for name in images]
        if left_out is not None and len(images) < len(names):
            left_out.add(parent, names)
    return sorted(found)


def _unreadable(error: OSError) -> None:
    """Say that a folder cannot be read, whose images :func:`os.walk` would pass over.

    Raises:
        DataError: Always.
    """
    raise DataError(
        f"The folder {error.filename} cannot be read.", seen=f"{type(error).__name__}: {error.strerror}",
        do="Make it readable (folders need the right x, too), or remove it.",
    ) from error  # fmt: skip


def _by_name(folder: Path) -> dict[str, Path]:
    """Return the class folders by name, sorted; accents count as one character, as only some file systems keep them.

    Raises:
        DataError: If two names differ in nothing else.
    """
    found: dict[str, Path] = {}
    require_whole_links(folder)
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


def _files(folders: Mapping[str, Path], left_out: LeftOut) -> Files:
    paths: list[Path] = []
    counts = []
    known = {identity_of(folder): folder for folder in folders.values()}
    others = {*known, *(identity_of(folder.parent) for folder in folders.values())}
    for folder in folders.values():
        if (same := known[identity_of(folder)]) != folder:
            raise DataError(f"{folder} and {same} are one folder.", do="Remove the link.")
        of_class = image_files(folder, others, left_out)
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
