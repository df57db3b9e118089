"""NumPy archives: RFAD, FRePo and KIP leave ``.npz`` files with images and labels, classes or regression targets."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from guard_plugins.artifacts.formats.pairs import read_pair
from guard_plugins.artifacts.formats.tensors import MOST_BYTES
from guard_plugins.artifacts.sets.distilled import DistilledSetError
from guard_plugins.data.distilled import DistilledSet
from guard_plugins.files import regular

_IMAGES: Final = ("images", "image", "x", "x_syn", "x_proto")
_LABELS: Final = ("labels", "label", "y", "y_syn", "y_proto")


def read_npz(path: Path, *, mean: Sequence[float], std: Sequence[float]) -> DistilledSet:
    """Return the set of an archive; images may have their channels first or last.

    Labels (N, K) are targets of a regression, not logits: their largest entry is the class, and they are not kept.

    Args:
        path: The ``.npz`` file.
        mean: Per-channel mean of the data set, for normalised images.
        std: Per-channel standard deviation, likewise.

    Raises:
        DistilledSetError: If it is damaged, needs unpickling, or holds no images and labels.
    """
    images, labels = _arrays(path)
    if labels.ndim == 2 and labels.shape[1] > 1 and labels.dtype.kind == "f":
        if not np.isfinite(labels).all():
            raise DistilledSetError(f"The labels in {path} are not finite numbers")
        labels = labels.argmax(1)
    return read_pair(
        torch.from_numpy(_channels_first(images)), torch.from_numpy(labels), path, mean=mean, std=std
    )  # fmt: skip


def _arrays(path: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    try:
        with zipfile.ZipFile(regular(path)) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > MOST_BYTES:
            raise DistilledSetError(f"{path} is too large to read", seen=f"{size:,} bytes when unpacked")
        with np.load(regular(path), allow_pickle=False) as content:
            names = list(content.files)
            image = next((name for name in _IMAGES if name in names), None)
            label = next((name for name in _LABELS if name in names), None)
            if image is None or label is None:
                raise DistilledSetError(
                    f"{path} holds no images and labels under names that are known",
                    seen=f"arrays: {', '.join(names[:8]) or 'none'}",
                    do=f"Call the arrays {_IMAGES[0]} and {_LABELS[0]}.",
                )
            return _plain(content[image], path), _plain(content[label], path)
    except (OSError, ValueError, KeyError, EOFError, MemoryError, zipfile.BadZipFile, NotImplementedError) as error:
        raise DistilledSetError(
            f"{path} is not a NumPy archive that can be read safely", seen=f"{type(error).__name__}: {error}",
            do="It must hold arrays of numbers; nothing in it is ever unpickled.",
        ) from error  # fmt: skip


def _plain(array: np.ndarray[Any, Any], path: Path) -> np.ndarray[Any, Any]:
    """Return an array whose type PyTorch has, in this machine's byte order."""
    if array.dtype.kind not in "iuf" or array.dtype.itemsize > 8:
        raise DistilledSetError(f"{path} holds an array of another kind than numbers", seen=f"{array.dtype}")
    kind = {"u2": "i4", "u4": "i8", "u8": "i8"}.get(array.dtype.kind + str(array.dtype.itemsize))
    return np.ascontiguousarray(array.astype(kind or array.dtype.newbyteorder("=")))


def _channels_first(images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if images.ndim == 3:
        return images[:, None]
    if images.ndim == 4 and images.shape[1] not in (1, 3) and images.shape[3] in (1, 3):
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    return images
