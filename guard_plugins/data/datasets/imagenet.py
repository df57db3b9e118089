"""ImageNet-1k and its ten-class subset Imagenette, in the layouts torchvision makes of the original archives."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from guard_plugins.data.base import Data, DataRequest, DataSet
from guard_plugins.data.images import constants
from guard_plugins.data.images.locations import data_root, failed_download, missing_set
from guard_plugins.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from guard_plugins.data.images.listing import Listing

IMAGE_SIZE: Final = 224
"""Side in pixels where none is requested, that of the published settings."""

TEST_CROP: Final = 224 / 256
"""Share of the shorter side that test images keep: the field resizes to 256 and crops 224."""

IMAGENETTE_CLASSES: Final = {
    "n01440764": "tench",
    "n02102040": "English springer",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
    "n03028079": "church",
    "n03394916": "French horn",
    "n03417042": "garbage truck",
    "n03425413": "gas pump",
    "n03445777": "golf ball",
    "n03888257": "parachute",
}
"""Class folder (WordNet id) and name, as in the set's documentation."""

_IMAGENETTE_FOLDERS: Final = ("imagenette2", "imagenette2-320", "imagenette2-160")


class Imagenette(DataSet):
    """Imagenette 2 (Howard 2019): 9,469 and 3,925 photographs in ten easy classes of ImageNet.

    Of the archives found in ``root``, the one with the largest images is read. Images are reduced to their central
    square; test images keep 7/8 of its side, as in the usual evaluation of ImageNet models.
    """

    name = "imagenette"
    summary = "Imagenette, 10 ImageNet classes, 224x224 unless --data.image-size (--data-root or --download)"
    ignores = ("data.split", "data.range")

    def load(self, request: DataRequest) -> Data:
        """Read ``imagenette2[-320|-160]/{train,val}`` in ``root``, downloading the 320-pixel archive if need be.

        Raises:
            DataError: If the set is missing or broken, or the download fails.
        """
        from guard_plugins.data.images.listing import list_classes

        request.refuse(self.name, "split")
        folder = self._folder(data_root(request), download=request.download)
        listing = list_classes(folder / "train", folder / "val")
        names = tuple(IMAGENETTE_CLASSES.get(wnid, wnid) for wnid in listing.classes)
        return _assemble(self.name, replace(listing, classes=names), request)

    def _folder(self, root: Path, *, download: bool) -> Path:
        if root.name in _IMAGENETTE_FOLDERS:
            return root
        found = [root / name for name in _IMAGENETTE_FOLDERS if (root / name).is_dir()]
        if found:
            return found[0]
        if not download:
            raise missing_set(
                self.name, root / _IMAGENETTE_FOLDERS[0], seen=f"none of {', '.join(_IMAGENETTE_FOLDERS)} is there"
            )
        return self._download(root)

    def _download(self, root: Path) -> Path:
        from torchvision import datasets

        try:
            datasets.Imagenette(root, split="train", size="320px", download=True)
        except (OSError, RuntimeError) as error:
            raise failed_download(self.name, root, error) from error
        return root / "imagenette2-320"


class ImageNet(DataSet):
    """ImageNet-1k (ILSVRC 2012), or any subset of its classes in the same layout.

    Class names are the WordNet ids, which unlike the words are unique.
    """

    name = "imagenet"
    summary = "ImageNet-1k in ROOT/train and ROOT/val, 224x224 unless --data.image-size (--data-root)"
    needs_root = True
    ignores = ("data.split", "data.range")

    def load(self, request: DataRequest) -> Data:
        """Read ``train/WNID`` and ``val/WNID`` in ``root``; ``download`` lets torchvision unpack the archives there.

        Raises:
            DataError: If the class folders are missing or broken, or the archives cannot be unpacked.
        """
        from guard_plugins.data.images.listing import class_folders, list_classes

        request.refuse(self.name, "split")
        if request.root is None:
            raise DataError(
                "The data set imagenet cannot be downloaded.",
                do="Get it from image-net.org and pass --data-root with the folder that holds train/ and val/.",
            )
        root = data_root(request)
        for split in ("train", "val"):
            if not ((root / split).is_dir() and class_folders(root / split)):
                self._unpack(root, split, allowed=request.download)
        return _assemble(self.name, list_classes(root / "train", root / "val"), request)

    def _unpack(self, root: Path, split: str, *, allowed: bool) -> None:
        archive = root / f"ILSVRC2012_img_{split}.tar"
        if not archive.is_file():
            raise missing_set(
                self.name,
                root / split,
                seen="no class folders, and no archive",
                downloadable=False,
                holds="train/ and val/",
            )
        if not allowed:
            raise missing_set(
                self.name,
                root / split,
                seen=f"no class folders, only {archive.name}",
                downloadable=False,
                holds="train/ and val/",
                hint=f"Pass --download to unpack the archive into {root}.",
            )
        from torchvision import datasets

        try:
            datasets.ImageNet(root, split=split)
        # ModuleNotFoundError: torchvision reads the development kit with SciPy.
        except (OSError, RuntimeError, ModuleNotFoundError) as error:
            raise DataError(
                f"The archive {archive} could not be unpacked.",
                seen=f"{type(error).__name__}: {error}",
                do="Put ILSVRC2012_devkit_t12.tar.gz beside it, check that the archive is complete, and try again.",
            ) from error


def _assemble(name: str, listing: Listing, request: DataRequest) -> Data:
    from guard_plugins.data.images.assemble import assemble
    from guard_plugins.data.images.target import Target

    side = request.image_size or IMAGE_SIZE
    train = Target(channels=3, height=side, width=side, crop=1.0, reduced=request.reduced_decode)
    test = replace(train, crop=TEST_CROP)
    return assemble(name, listing, request, train_target=train, test_target=test, statistics=constants.IMAGENET)
