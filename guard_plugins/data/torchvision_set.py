"""Base of the data sets that torchvision reads and fetches, and that fit into memory."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from guard_plugins.data.base import FILE_SETTINGS, Data, DataRequest, DataSet
from guard_plugins.data.images.locations import data_root, failed_download, missing_set
from guard_plugins.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from guard_plugins.data.images.constants import Statistics


class TorchvisionSet(DataSet):
    """A data set of torchvision with a training and a test split.

    Attributes:
        folder: Folder its files lie in, below the data root.
        constants: Published mean and standard deviation.
        damaged: What is wrong where the folder is there, but torchvision does not take it.
    """

    folder: ClassVar[str]
    constants: ClassVar[Statistics]
    ignores = FILE_SETTINGS
    damaged: ClassVar[str] = "files are missing or their checksums differ"

    def load(self, request: DataRequest) -> Data:
        """Read the files in ``root``, downloading them first if asked to and needed.

        Raises:
            DataError: If the files are missing or altered, or the download fails.
        """
        request.refuse(self.name, "split", "range", "reduced_decode")
        root = data_root(request)
        root = root.parent if root.name == self.folder else root
        train, test = (self._open(root, train=train, download=request.download) for train in (True, False))
        parts = [(train, request.train_per_class), (test, request.test_per_class)]
        train_split, test_split = (_split(*self.tensors(part), request.image_size, limit) for part, limit in parts)
        _, channels, height, width = train_split.pixels.shape
        return Data(
            self.name, train_split, test_split, self.class_names(train), *self.constants, (channels, height, width)
        )

    @abstractmethod
    def read(self, root: Path, *, train: bool, download: bool) -> Any:
        """Return torchvision's data set of one split; OSError and RuntimeError mean that files are missing.

        Args:
            root: The data root.
            train: Whether to return the training split, or else the test split.
            download: Whether the network may be used.
        """

    @abstractmethod
    def tensors(self, split: Any) -> tuple[Tensor, Tensor]:
        """Return the pixels, uint8 of shape (N, C, H, W), and the labels, int64 of shape (N,), of a split."""

    def class_names(self, train: Any) -> tuple[str, ...]:
        """Return the names of the classes, in the order of the labels."""
        return tuple(train.classes)

    def _open(self, root: Path, *, train: bool, download: bool) -> Any:
        try:
            return self.read(root, train=train, download=download)
        except (OSError, RuntimeError, ValueError, AssertionError) as error:
            raise failed_download(self.name, root, error) if download else self._missing(root) from error

    def _missing(self, root: Path) -> DataError:
        folder = root / self.folder
        if folder.is_dir():
            return missing_set(self.name, folder, seen=self.damaged, hint="Delete that folder first.")
        hint = f"For folders of images use --dataset folder --data-root {root}." if (root / "train").is_dir() else ""
        return missing_set(self.name, folder, seen="no such folder", hint=hint)


def _split(pixels: Tensor, labels: Tensor, image_size: int | None, per_class: int | None) -> Any:
    from guard_plugins.data.images.resize import resize
    from guard_plugins.data.splits import TensorSplit, first_per_class

    kept = first_per_class(labels, per_class)
    return TensorSplit(resize(pixels[kept].contiguous(), image_size), labels[kept])
