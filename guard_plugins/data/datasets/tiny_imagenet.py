"""Tiny ImageNet in the layout it is distributed in, whose validation images have no class folders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from guard_plugins.data.base import Data, DataRequest, DataSet
from guard_plugins.data.images import constants
from guard_plugins.data.images.locations import data_root, missing_set
from guard_plugins.errors import DataError
from guard_plugins.files import regular

if TYPE_CHECKING:
    from pathlib import Path

    from guard_plugins.data.images.listing import Listing
    from guard_plugins.data.images.splits import Files

FOLDER: Final = "tiny-imagenet-200"


class TinyImageNet(DataSet):
    """Tiny ImageNet (Le & Yang, CS231n 2015): 100,000 and 10,000 images of 64x64 pixels in 200 classes.

    The test split here is the set's validation split, because its own test images are unlabelled. Classes are the
    WordNet ids in alphabetical order, as class folders would be read.
    """

    name = "tiny-imagenet"
    summary = "Tiny ImageNet-200 in its raw layout, 64x64 colour, 200 classes (--data-root)"
    needs_root = True
    ignores = ("data.split", "data.range", "data.reduced_decode")

    def load(self, request: DataRequest) -> Data:
        """Read ``train/WNID/images``, ``val/images`` and the annotations in ``root`` or ``root/tiny-imagenet-200``.

        Raises:
            DataError: If files are missing, broken or contradict each other.
        """
        from guard_plugins.data.images.assemble import assemble
        from guard_plugins.data.images.target import Target

        request.refuse(self.name, "split", "reduced_decode")
        root = data_root(request)
        root = root / FOLDER if (root / FOLDER).is_dir() else root
        if not (root / "wnids.txt").is_file():
            raise missing_set(
                self.name,
                root if root.name == FOLDER else root / FOLDER,
                seen="no wnids.txt",
                downloadable=False,
                hint="Get http://cs231n.stanford.edu/tiny-imagenet-200.zip and unpack it.",
            )
        side = request.image_size or 64
        target = Target(channels=3, height=side, width=side, crop=1.0)
        return assemble(
            self.name, read_listing(root), request, train_target=target, statistics=constants.TINY_IMAGENET
        )  # fmt: skip


def read_listing(root: Path) -> Listing:
    """Return the files of the raw layout.

    Args:
        root: The folder with ``wnids.txt``, ``train`` and ``val``.

    Raises:
        DataError: If files are missing or contradict each other.
    """
    from guard_plugins.data.images.listing import Listing

    wnids = tuple(sorted(_read(root / "wnids.txt").split()))
    return Listing(wnids, _train_files(root / "train", wnids), _val_files(root / "val", wnids))


def _train_files(folder: Path, wnids: tuple[str, ...]) -> Files:
    import torch

    from guard_plugins.data.images.listing import image_files
    from guard_plugins.data.images.splits import Files

    paths = [image_files(folder / wnid / "images") for wnid in wnids]
    empty = [wnid for wnid, of_class in zip(wnids, paths, strict=True) if not of_class]
    if empty:
        raise _inconsistent(
            f"{folder / empty[0] / 'images'} holds no images",
            f"{len(empty)} of the {len(wnids)} classes in wnids.txt have none",
        )
    labels = torch.arange(len(wnids)).repeat_interleave(torch.tensor([len(of_class) for of_class in paths]))
    return Files(tuple(path for of_class in paths for path in of_class), labels)


def _val_files(folder: Path, wnids: tuple[str, ...]) -> Files:
    """Return the validation files in the order of their names, labelled by ``val_annotations.txt``."""
    import torch

    from guard_plugins.data.images.splits import Files

    annotations = folder / "val_annotations.txt"
    rows = [line.split("\t") for line in _read(annotations).splitlines() if line.strip()]
    label_of = {wnid: label for label, wnid in enumerate(wnids)}
    bad = [row for row in rows if len(row) < 2 or row[1] not in label_of]
    if bad or not rows:
        seen = f"{len(bad)} lines, such as {' '.join(bad[0])!r}" if bad else "the file is empty"
        raise _inconsistent(f"{annotations} does not name a class of wnids.txt for every image", seen)
    rows.sort(key=lambda row: row[0])
    paths = tuple(folder / "images" / row[0] for row in rows)
    return Files(paths, torch.tensor([label_of[row[1]] for row in rows]))


def _read(path: Path) -> str:
    try:
        return regular(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _inconsistent(f"{path} cannot be read", f"{type(error).__name__}: {error}") from error


def _inconsistent(what: str, seen: str) -> DataError:
    return DataError(f"Tiny ImageNet is incomplete: {what}.", seen=seen, do="Unpack tiny-imagenet-200.zip anew.")
