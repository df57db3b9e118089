"""MNIST and FashionMNIST in their IDX files, read and fetched by torchvision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from guard_plugins.data.images import constants
from guard_plugins.data.torchvision_set import TorchvisionSet

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from guard_plugins.data.base import DataRequest


class _Idx(TorchvisionSet):
    damaged = "files are missing or damaged below its folder raw/"
    folder: ClassVar[Literal["MNIST", "FashionMNIST"]]

    def side(self, request: DataRequest) -> int:
        """Return 28."""
        return 28

    def read(self, root: Path, *, train: bool, download: bool) -> Any:
        """Return torchvision's data set of one split.

        Args:
            root: The data root.
            train: Whether to return the training split, or else the test split.
            download: Whether the network may be used.
        """
        from torchvision import datasets

        return getattr(datasets, self.folder)(root, train=train, download=download)

    def tensors(self, split: Any) -> tuple[Tensor, Tensor]:
        """Return the pixels, uint8 of shape (N, 1, 28, 28), and the labels, int64 of shape (N,), of a split."""
        return split.data.unsqueeze(1), split.targets


class Mnist(_Idx):
    """MNIST (LeCun et al. 1998): 60,000 and 10,000 grey digits of 28x28 pixels."""

    name = "mnist"
    summary = "MNIST, 28x28 grey, 10 classes (--data-root or --download)"
    folder, constants = "MNIST", constants.MNIST


class FashionMnist(_Idx):
    """FashionMNIST (Xiao et al. 2017): 60,000 and 10,000 grey images of clothes, 28x28 pixels, in 10 classes."""

    name = "fashion-mnist"
    summary = "FashionMNIST, 28x28 grey, 10 classes (--data-root or --download)"
    folder, constants = "FashionMNIST", constants.FASHION_MNIST
