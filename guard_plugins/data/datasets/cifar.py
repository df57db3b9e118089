"""CIFAR-10 and CIFAR-100 in their Python batches, read and fetched by torchvision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from guard_plugins.data.images import constants
from guard_plugins.data.torchvision_set import TorchvisionSet

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor


class _Cifar(TorchvisionSet):
    reader: ClassVar[Literal["CIFAR10", "CIFAR100"]]

    def read(self, root: Path, *, train: bool, download: bool) -> Any:
        """Return torchvision's data set of one split.

        Args:
            root: The data root.
            train: Whether to return the training split, or else the test split.
            download: Whether the network may be used.
        """
        from torchvision import datasets

        return getattr(datasets, self.reader)(root, train=train, download=download)

    def tensors(self, split: Any) -> tuple[Tensor, Tensor]:
        """Return the pixels, uint8 of shape (N, C, H, W), and the labels, int64 of shape (N,), of a split."""
        import torch

        return torch.from_numpy(split.data).permute(0, 3, 1, 2), torch.tensor(split.targets)


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
