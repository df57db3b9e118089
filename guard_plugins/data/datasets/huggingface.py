"""Hugging Face data sets by local path: the hub's Parquet files, or the Arrow files of ``save_to_disk``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from guard_plugins.data.base import FILE_SETTINGS, Data, DataRequest, DataSet
from guard_plugins.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from guard_plugins.data.images.tables import Rows
    from guard_plugins.data.images.target import Target
    from guard_plugins.data.splits import TensorSplit

_TESTS: Final = ("test", "validation", "valid", "val")


class HuggingFace(DataSet):
    """``ROOT/train/*.arrow`` and ``ROOT/test/*.arrow``, or ``train-*.parquet`` and ``test-*.parquet`` in a folder.

    The test split is ``test``, or else ``validation``. Images are grey only if all of them are. Mean and standard
    deviation are those of the training images that are kept.
    """

    name = "huggingface"
    summary = "a Hugging Face data set on disk, Parquet or Arrow (--data-root; needs guard-plugins[datasets])"
    needs_root = True
    ignores = ("download", *FILE_SETTINGS)

    def load(self, request: DataRequest) -> Data:
        """Read the files below ``request.root``; nothing is downloaded.

        Raises:
            DataError: If pyarrow or files are missing, something is damaged, or sizes differ and no size is requested.
        """
        from guard_plugins.data.images.statistics import channel_statistics
        from guard_plugins.data.images.tables import read_rows

        request.refuse(self.name, "split", "range", "reduced_decode")
        root = _existing(request.root)
        train, test = (read_rows(_files(root, names)) for names in (("train",), _TESTS))
        classes = train.classes or tuple(map(str, range(int(max(train.labels.max(), test.labels.max())) + 1)))
        if (test.classes or classes) != classes or max(train.labels.max(), test.labels.max()) >= len(classes):
            raise DataError(
                f"The classes of the splits in {root} differ.",
                seen=f"train: {len(classes)} classes; test: {len(test.classes or classes)}, labels up to "
                f"{int(test.labels.max())}",
                do="Give both splits the same classes.",
            )
        target = _target(train, test, request.image_size, root)
        parts = ((train, request.train_per_class), (test, request.test_per_class))
        train_split, test_split = (_split(rows, target, limit) for rows, limit in parts)
        mean, std = channel_statistics(train_split)
        shape = (target.channels, target.height, target.width)
        return Data(self.name, train_split, test_split, classes, mean, std, shape)


def _existing(root: Path | None) -> Path:
    if root is None or not root.expanduser().is_dir():
        raise DataError(
            "The data set huggingface needs the folder that holds its Parquet or Arrow files.",
            seen="no --data-root" if root is None else f"{root} is no folder",
            do="Pass --data-root with a folder made by save_to_disk, or with the files of the hub in it.",
        )
    return root.expanduser()


def _files(root: Path, names: tuple[str, ...]) -> list[Path]:
    """Return the files of a split, under the first of its names that is there.

    Raises:
        DataError: If there are none.
    """
    from guard_plugins.data.images.tables import TABLES

    for name in names:
        for ending in TABLES:
            patterns = (f"{name}/*{ending}", f"{name}-*{ending}", f"data/{name}-*{ending}", f"*/{name}-*{ending}")
            for pattern in (*patterns, f"{name}{ending}"):
                if found := sorted(root.glob(pattern)):
                    return found
    raise DataError(
        f"There is no split {names[0]} in {root}.",
        seen=f"neither {names[0]}/*.arrow nor {names[0]}-*.parquet, there or one folder below",
        do="Give the folder of one configuration of the set, with a training and a test (or validation) split.",
    )


def _target(train: Rows, test: Rows, image_size: int | None, root: Path) -> Target:
    """Return size and channels of all images.

    Raises:
        DataError: If sizes differ and ``image_size`` is None.
    """
    from guard_plugins.data.images.target import Target

    headers = [*train.headers, *test.headers]
    channels = 1 if all(header.grey for header in headers) else 3
    sizes = sorted({(header.height, header.width) for header in headers})
    if image_size is not None:
        return Target(channels=channels, height=image_size, width=image_size, crop=1.0)
    if len(sizes) > 1:
        raise DataError(
            f"The images in {root} are not all of one size.",
            seen=f"{len(sizes)} sizes (height x width), from {sizes[0]} to {sizes[-1]}",
            do="Pass --data.image-size N to resize the central square of every image to NxN pixels.",
        )
    return Target(channels=channels, height=sizes[0][0], width=sizes[0][1])


def _split(rows: Rows, target: Target, per_class: int | None) -> TensorSplit:
    import numpy as np
    import torch

    from guard_plugins.data.images.decode import decode
    from guard_plugins.data.splits import TensorSplit, first_per_class

    labels = torch.from_numpy(rows.labels)
    kept = first_per_class(labels, per_class)
    pixels = np.empty((len(kept), target.channels, target.height, target.width), np.uint8)
    for n, row in enumerate(kept.tolist()):
        content, name = rows.images[row]
        pixels[n] = decode(content, target, name)
    return TensorSplit(torch.from_numpy(pixels), labels[kept])
