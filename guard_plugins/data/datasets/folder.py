"""A folder of images with one subfolder per class, the layout of torchvision's ImageFolder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guard_plugins.data.base import Data, DataRequest, DataSet
from guard_plugins.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path


class Folder(DataSet):
    """``ROOT/train/CLASS/*`` and ``ROOT/test/CLASS/*`` (or ``val``; with both, ``test`` counts), any image format.

    Files are taken in alphabetical order. Mean and standard deviation are those of the training images that are kept.
    Images are grey only if all of them are; `guard_plugins.data.images.decode.decode` tells of alpha,
    palettes and 16 bits.
    """

    name = "folder"
    summary = "your own images in ROOT/train/CLASS and ROOT/test/CLASS (or val), resized with --data.image-size"
    needs_root = True

    def load(self, request: DataRequest) -> Data:
        """Read the images below ``request.root``.

        Raises:
            DataError: If the layout is wrong, a file is broken, or sizes differ and ``image_size`` is None.
        """
        from guard_plugins.data.images.assemble import assemble
        from guard_plugins.data.images.listing import list_classes

        root = _existing(request.root)
        _require_train(root)
        return assemble(self.name, list_classes(root / "train", _test_folder(root)), request)


def _existing(root: Path | None) -> Path:
    from guard_plugins.data.images.listing import LAYOUT

    if root is None:
        raise DataError("The data set folder needs to know where the images are.", do=f"Pass --data-root. {LAYOUT}")
    root = root.expanduser()
    if not root.is_dir():
        kind = "is a file" if root.exists() else "does not exist"
        raise DataError(f"The data root {root} {kind}.", seen=f"looked in {root.absolute()}", do="Correct --data-root.")
    return root


def _require_train(root: Path) -> None:
    from guard_plugins.data.images.listing import LAYOUT, class_folders

    if (root / "train").is_dir():
        return
    found = class_folders(root)
    below = [name for name in found if (root / name / "train").is_dir()]
    do = f"Pass --data-root {root / below[0]}." if below else LAYOUT
    raise DataError(
        f"There is no folder train/ in {root}.", seen=f"folders there: {', '.join(found[:8]) or 'none'}", do=do
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
    raise DataError(
        f"There is no test split in {root}.",
        seen="neither test/ nor val/ with class folders in it",
        do=f"Move a part of the training images there. {LAYOUT}",
    )
