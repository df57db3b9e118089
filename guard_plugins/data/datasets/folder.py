"""A folder of images with one subfolder per class, the layout of torchvision's ImageFolder."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from guard_plugins.data.base import Data, DataRequest, DataSet
from guard_plugins.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from guard_plugins.data.images.listing import Listing

_OTHER_NAMES: Final = {"train": ("training",), "test": ("tests", "testing", "valid", "validation", "eval", "dev")}
"""What the folders of the two splits are called elsewhere; upper case and words such as ``_set`` are tried, too."""
_MORE_WORDS: Final = re.compile(r"[-_. ]?(set|data|images|imgs|split|folder)$")


class Folder(DataSet):
    """``ROOT/train/CLASS/*`` and ``ROOT/test/CLASS/*`` (or ``val``; with both, ``test`` counts), any image format.

    Without test images, ``DataRequest.split`` holds out a share of every class, of ``ROOT/train/CLASS/*`` or of
    ``ROOT/CLASS/*``. Files are taken in alphabetical order. Mean and standard deviation are those of the training
    images that are kept. Images are grey only if all of them are; `guard_plugins.data.images.decode.decode` says what
    becomes of alpha, palettes and more than 8 bits.
    """

    name = "folder"
    summary = "your own images in ROOT/train/CLASS and ROOT/test/CLASS (or val), resized with --data.image-size"
    needs_root = True
    ignores = ("download",)

    def side(self, request: DataRequest) -> int | None:
        """Return that of the first image."""
        from guard_plugins.data.images.glance import first_side

        return None if request.root is None else first_side(_training_part(request.root.expanduser()))

    def training_images(self, request: DataRequest, most: int) -> int | None:
        """Return the number of files below ``train/``, or of all where that is missing."""
        from guard_plugins.data.images.glance import count_images

        return None if request.root is None else count_images(_training_part(request.root.expanduser()), most)

    def load(self, request: DataRequest) -> Data:
        """Read the images below ``request.root``.

        Raises:
            DataError: If the layout is wrong, a file is broken, or sizes differ and ``image_size`` is None.
        """
        from guard_plugins.data.images.assemble import assemble
        from guard_plugins.data.images.listing import list_classes

        root = _existing(request.root)
        if request.split is not None:
            note = f"no test images: {request.split:g} of every class are held out (--data.split)"
            data = assemble(self.name, _shared_out(root, request.split), request)
            return replace(data, name=f"{self.name}, {request.split:g} held out", notes=(note, *data.notes))
        _require_train(root)
        return assemble(self.name, list_classes(root / "train", _test_folder(root)), request)


def _training_part(root: Path) -> Path:
    return root / "train" if os.path.isdir(root / "train") else root  # noqa: PTH112 - no error where it may not be read


def _existing(root: Path | None) -> Path:
    from guard_plugins.data.images.listing import LAYOUT

    if root is None:
        raise DataError("The data set folder needs to know where the images are.", do=f"Pass --data-root. {LAYOUT}")
    root = root.expanduser()
    if root.is_dir() and not os.access(root, os.R_OK | os.X_OK):
        raise DataError(
            f"The data root {root} may not be read.",
            seen="Permission denied",
            do="Make it readable, or run as its owner.",
        )
    if not root.is_dir():
        kind = "is a file" if root.exists() else "does not exist"
        raise DataError(f"The data root {root} {kind}.", seen=f"looked in {root.absolute()}", do="Correct --data-root.")
    return root


def _shared_out(root: Path, share: float) -> Listing:
    """Return the files of ``ROOT/train/CLASS`` or ``ROOT/CLASS``, some of them held out.

    Raises:
        DataError: If there are test images.
    """
    from guard_plugins.data.images.listing import class_folders, list_with_share

    found = class_folders(root)
    has_train = (root / "train").is_dir()
    if not has_train:
        _require_classes(root, found)
    tests = [name for name in found if _plain(name) in _names("test") and class_folders(root / name)]
    if has_train and tests:
        raise DataError(
            f"{root} has test images of its own, so none are held out (--data.split).",
            seen=f"{root / tests[0]}", do=_rename(root, found, "test")
            or "Leave --data.split out, or use --data.validation-per-class.",
        )  # fmt: skip
    return list_with_share(root / "train" if has_train else root, share)


def _require_classes(root: Path, found: tuple[str, ...]) -> None:
    """Return if folders may be classes: none is a split under another name, or holds runs of this project."""
    from guard_plugins.data.images.listing import class_folders

    remedy = _rename(root, found, "train")
    other = next((name for name in found if _plain(name) in _names("train")), None)
    if remedy and other is not None and class_folders(root / other):  # a class of this name holds images, no folders
        raise DataError(
            f"{root} has no folder train/ but one that may be it, so its folders are no classes (--data.split).",
            seen=f"folders there: {', '.join(found[:8])}", do=remedy,
        )  # fmt: skip
    for name in found:
        if any(path.with_name("config.yaml").is_file() for path in (root / name).glob("*/manifest.json")):
            raise DataError(
                f"The folder {root / name} holds runs, no images of a class.", seen=f"--data-root {root}",
                do="Move it out of there, and write runs elsewhere (--output).",
            )  # fmt: skip


def _require_train(root: Path) -> None:
    from guard_plugins.data.images.listing import LAYOUT, class_folders, image_files

    if (root / "train").is_dir():
        return
    found = class_folders(root)
    below = [name for name in found if (root / name / "train").is_dir()]
    do = _another_kind(root) or (f"Pass --data-root {root / below[0]}." if below else _rename(root, found, "train"))
    if not do and len(found) > 1 and all(image_files(root / name) for name in found[:3]):
        do = f"If these are the classes, pass --data.split 0.2 to hold out a fifth of each as test images. {LAYOUT}"
    raise DataError(
        f"There is no folder train/ in {root}.",
        seen=f"folders there: {', '.join(found[:8]) or 'none'}",
        do=do or LAYOUT,
    )


def _test_folder(root: Path) -> Path:
    from guard_plugins.data.images.listing import LAYOUT, class_folders

    if (root / "val" / "val_annotations.txt").is_file():
        raise DataError(
            f"{root} holds Tiny ImageNet in its raw layout, whose val/ has no class folders.",
            seen=f"{root / 'val' / 'val_annotations.txt'}",
            do=f"Use --dataset tiny-imagenet --data-root {root}.",
        )
    for name in ("test", "val"):
        if (root / name).is_dir() and class_folders(root / name):
            return root / name
    if not class_folders(root / "train"):
        raise DataError(
            f"There are no class folders in {root / 'train'}.", seen=_lying_in(root / "train"),
            do=_another_kind(root) or LAYOUT,
        )  # fmt: skip
    other = _rename(root, class_folders(root), "test")
    raise DataError(
        f"There is no test split in {root}.",
        seen="neither test/ nor val/ with class folders in it",
        do=other
        or "Move a part of the training images there, or pass --data.split 0.2 to hold out a fifth of every "
        f"class. {LAYOUT}",
    )


def _another_kind(root: Path) -> str:
    """Return the remedy where a folder is laid out as Hugging Face does, or nothing."""
    places = [place for place in (root, root / "data", root / "train") if place.is_dir()]
    names = {child.name for place in places for child in place.iterdir()}
    if any(name.endswith((".parquet", ".arrow")) for name in names):
        return f"This is a data set of Hugging Face: use --dataset huggingface --data-root {root}."
    tables = sorted(names & {"metadata.csv", "metadata.jsonl"})
    if tables:
        return f"Labels are not read from {tables[0]}: move every image into a folder with the name of its class."
    return ""


def _lying_in(folder: Path) -> str:
    names = sorted(child.name for child in folder.iterdir() if not child.name.startswith("."))
    return f"{len(names)} files" + (f", such as {names[0]}" if names else "")


def _rename(root: Path, found: tuple[str, ...], wanted: str) -> str:
    """Return the remedy where a split's folder has another name, or nothing."""
    other = next((name for name in found if _plain(name) in _names(wanted) and name != wanted), None)
    return f"Rename {root / other} to {root / wanted}." if other else ""


def _names(split: str) -> tuple[str, ...]:
    return (split, *(("val",) if split == "test" else ()), *_OTHER_NAMES[split])


def _plain(name: str) -> str:
    """Return the name of a folder as it would be without words such as ``_set``."""
    return _MORE_WORDS.sub("", name.lower())
