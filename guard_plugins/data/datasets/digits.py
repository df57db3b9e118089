"""The handwritten digits that come with scikit-learn: the data set that needs neither files nor a network."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from guard_plugins.data.base import FILE_SETTINGS, Data, DataRequest, DataSet

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

FILE: Final = "datasets/data/digits.csv.gz"
"""Where scikit-learn keeps them."""
TEST_FRACTION: Final = 0.2
MEAN: Final = (0.3051,)
STD: Final = (0.3761,)
"""Mean and standard deviation of the training pixels in [0, 1], computed once (a test recomputes them)."""


class Digits(DataSet):
    """1,797 digits of 8x8 pixels in 17 grey levels (Alpaydin & Kaynak, UCI Optical Recognition of Handwritten Digits).

    One fifth of every class is the test split. Which images those are depends on nothing but their position in the
    file, so results stay comparable between seeds, machines and versions of scikit-learn.
    """

    name = "digits"
    summary = "scikit-learn's 8x8 grey digits, 10 classes, embedded: no files, no download"
    ignores = ("data_root", "download", *FILE_SETTINGS)

    def load(self, request: DataRequest) -> Data:
        """Read the digits; ``root`` and ``download`` play no part.

        Raises:
            DataError: If the request has options that do not apply.
        """
        request.refuse(self.name, "split", "range", "reduced_decode")
        import torch

        from guard_plugins.data.images.resize import resize
        from guard_plugins.data.splits import TensorSplit, first_per_class

        images, classes = _read()
        pixels = resize(torch.from_numpy(images / 16).float().unsqueeze(1), request.image_size)
        labels = torch.from_numpy(classes).long()
        is_test = held_out(labels)

        def split(mask: Tensor, limit: int | None) -> TensorSplit:
            kept = first_per_class(labels[mask], limit)
            return TensorSplit(pixels[mask][kept], labels[mask][kept])

        return Data(
            name=self.name,
            train=split(~is_test, request.train_per_class),
            test=split(is_test, request.test_per_class),
            classes=tuple(map(str, range(10))),
            mean=MEAN,
            std=STD,
            image_shape=(1, *pixels.shape[-2:]),
        )


def _read() -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the grey levels from 0 to 16, shape (N, 8, 8), and the classes, shape (N,).

    scikit-learn takes longer to import than its file to read.
    """
    import numpy as np

    package = importlib.util.find_spec("sklearn")
    file = Path(package.origin).parent / FILE if package is not None and package.origin else None
    if file is not None and file.is_file():
        rows = np.loadtxt(file, delimiter=",")
        return rows[:, :-1].reshape(-1, 8, 8), rows[:, -1].astype(int)
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return bunch.images, bunch.target


def held_out(labels: Tensor) -> Tensor:
    """Return a mask of the test images: a fifth of each class, chosen by a hash of their position in the file.

    Args:
        labels: Class indices in file order, int64 of shape (N,).
    """
    import torch

    mask = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        members = torch.nonzero(labels == label).flatten().tolist()
        members.sort(key=lambda position: hashlib.blake2b(f"digits/{position}".encode(), digest_size=8).digest())
        mask[members[: round(TEST_FRACTION * len(members))]] = True
    return mask
