"""The files DD-Ranking takes: a folder with ``images.pt`` (pixels in [0, 1]) and ``labels.pt`` (classes or logits)."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from torch import Tensor

from guard_plugins.artifacts.atomic import made
from guard_plugins.artifacts.formats.torch_files import images_of, labels_of, read_torch, write_torch
from guard_plugins.data.distilled import DistilledSet
from guard_plugins.errors import ArtifactError

IMAGES: Final = "images.pt"
LABELS: Final = "labels.pt"


def read_dd_ranking(folder: Path) -> DistilledSet:
    """Return the set of a folder; soft labels (N, K) become ``soft_labels``, their largest entry the class.

    Raises:
        ArtifactError: If a file is missing or not of this format, or the pixels leave [0, 1].
    """
    images, labels = images_of(read_torch(folder / IMAGES), folder / IMAGES), read_torch(folder / LABELS)
    low, high = (float(value) for value in images.aminmax())
    if low < 0 or high > 1:
        raise ArtifactError(
            f"The images in {folder / IMAGES} leave [0, 1]", seen=f"pixels from {low:.4g} to {high:.4g}",
            do="They seem to be normalised: multiply by the data set's deviation, add its mean, and clip.",
        )  # fmt: skip
    if isinstance(labels, Tensor) and labels.is_floating_point() and labels.dim() == 2 and len(labels) == len(images):
        return DistilledSet(images, labels.argmax(1), labels.detach().float().clone())
    return DistilledSet(images, labels_of(labels, len(images), folder / LABELS))


def write_dd_ranking(folder: Path, distilled: DistilledSet) -> None:
    """Write a set in this layout, with its soft labels where it has some.

    Raises:
        ArtifactError: If something cannot be written.
    """
    made(folder)
    write_torch(folder / IMAGES, distilled.images)
    write_torch(folder / LABELS, distilled.labels if distilled.soft_labels is None else distilled.soft_labels)
