"""Street View House Numbers, the cropped digits, read and fetched by torchvision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from guard_plugins.data.images import constants
from guard_plugins.data.torchvision_set import TorchvisionSet

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

FILES: Final = ("train_32x32.mat", "test_32x32.mat")


class Svhn(TorchvisionSet):
    """SVHN (Netzer et al. 2011): 73,257 and 26,032 colour digits of 32x32 pixels; the extra images are not used."""

    name = "svhn"
    summary = "SVHN, 32x32 colour house numbers, 10 classes (--data-root or --download)"
    damaged = f"{FILES[0]} or {FILES[1]} is missing, or its checksum differs"
    folder, constants = "svhn", constants.SVHN

    def read(self, root: Path, *, train: bool, download: bool) -> Any:
        """Return torchvision's data set of one split, from ``root/svhn`` or from ``root`` if the files lie there.

        Args:
            root: The data root.
            train: Whether to return the training split, or else the test split.
            download: Whether the network may be used.
        """
        from torchvision import datasets

        where = root if (root / FILES[0]).is_file() else root / self.folder
        return datasets.SVHN(where, split="train" if train else "test", download=download)

    def tensors(self, split: Any) -> tuple[Tensor, Tensor]:
        """Return the pixels, uint8 of shape (N, 3, 32, 32), and the labels, int64 of shape (N,), of a split."""
        import torch

        return torch.from_numpy(split.data), torch.from_numpy(split.labels).long()

    def class_names(self, train: Any) -> tuple[str, ...]:
        """Return the digits."""
        return tuple(map(str, range(10)))
