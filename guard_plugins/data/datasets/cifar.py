"""CIFAR-10 and CIFAR-100 in their Python batches, read and fetched by torchvision."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from guard_plugins.data.base import Data, DataRequest, DataSet
from guard_plugins.data.images import constants
from guard_plugins.data.images.locations import data_root, failed_download, missing_set
from guard_plugins.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from torchvision.datasets import CIFAR10

    from guard_plugins.data.splits import TensorSplit


class _Cifar(DataSet):
    reader: ClassVar[Literal["CIFAR10", "CIFAR100"]]
    folder: ClassVar[str]
    constants: ClassVar[constants.Statistics]

    def load(self, request: DataRequest) -> Data:
        """Read the batches in ``root``, downloading them first if asked to and needed.

        Raises:
            DataError: If the batches are missing or altered, or the download fails.
        """
        root = data_root(request)
        root = root.parent if root.name == self.folder else root
        train, test = (self._open(root, train=train, download=request.download) for train in (True, False))
        train_split = _split(train, request.image_size, request.train_per_class)
        test_split = _split(test, request.image_size, request.test_per_class)
        _, channels, height, width = train_split.pixels.shape
        return Data(
            self.name, train_split, test_split, tuple(train.classes), *self.constants, (channels, height, width)
        )

    def _open(self, root: Path, *, train: bool, download: bool) -> CIFAR10:
        from torchvision import datasets

        reader: type[CIFAR10] = getattr(datasets, self.reader)
        try:
            return reader(root, train=train, download=download)
        except (OSError, RuntimeError) as error:
            raise failed_download(self.name, root, error) if download else self._missing(root) from error

    def _missing(self, root: Path) -> DataError:
        folder = root / self.folder
        if folder.is_dir():
            return missing_set(
                self.name, folder, seen="files are missing or their checksums differ", hint="Delete that folder first."
            )
        hint = f"For folders of images use --dataset folder --data-root {root}." if (root / "train").is_dir() else ""
        return missing_set(self.name, folder, seen="no such folder", hint=hint)


class Cifar10(_Cifar):
    """CIFAR-10 (Krizhevsky 2009): 50,000 and 10,000 colour images of 32x32 pixels in 10 classes."""

    name = "cifar10"
    summary = "CIFAR-10, 32x32 colour, 10 classes (--data-root or --download)"
    reader, folder, constants = "CIFAR10", "cifar-10-batches-py", constants.CIFAR10


class Cifar100(_Cifar):
    """CIFAR-100 (Krizhevsky 2009): 50,000 and 10,000 colour images of 32x32 pixels in 100 fine classes."""

    name = "cifar100"
    summary = "CIFAR-100, 32x32 colour, 100 classes (--data-root or --download)"
    reader, folder, constants = "CIFAR100", "cifar-100-python", constants.CIFAR100


def _split(batches: CIFAR10, image_size: int | None, per_class: int | None) -> TensorSplit:
    import torch

    from guard_plugins.data.images.resize import resize
    from guard_plugins.data.splits import TensorSplit, first_per_class

    labels = torch.tensor(batches.targets)
    kept = first_per_class(labels, per_class)
    pixels = torch.from_numpy(batches.data).permute(0, 3, 1, 2)[kept].contiguous()
    return TensorSplit(resize(pixels, image_size), labels[kept])
