"""The files DD-Ranking takes: a folder with ``images.pt`` (pixels in [0, 1]) and ``labels.pt`` (classes or logits)."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from guard_plugins.artifacts.atomic import made
from guard_plugins.artifacts.formats.pixels import ROUNDING
from guard_plugins.artifacts.formats.tensors import classes_and_logits, images_of
from guard_plugins.artifacts.formats.torch_files import read_torch, write_torch
from guard_plugins.artifacts.sets.distilled import DistilledSetError
from guard_plugins.data.distilled import DistilledSet

IMAGES: Final = "images.pt"
LABELS: Final = "labels.pt"


def read_dd_ranking(folder: Path) -> DistilledSet:
    """Return the set of a folder; soft labels (N, K) become ``soft_labels``, their largest entry the class.

    Raises:
        DistilledSetError: If a file is missing or not of this format, or the pixels leave [0, 1].
    """
    for name, other in ((IMAGES, LABELS), (LABELS, IMAGES)):
        if not (folder / name).is_file():
            raise DistilledSetError(
                f"There is no {name} in {folder}", seen=f"{other} without it",
                do=f"A DD-Ranking folder needs both: {IMAGES} (N, C, H, W) and {LABELS} (N,) or (N, classes).",
            )  # fmt: skip
    images, labels = images_of(read_torch(folder / IMAGES), folder / IMAGES), read_torch(folder / LABELS)
    low, high = (float(value) for value in images.aminmax())
    if low < -ROUNDING or high > 1 + ROUNDING:
        raise DistilledSetError(
            f"The images in {folder / IMAGES} leave [0, 1]", seen=f"pixels from {low:.4g} to {high:.4g}",
            do="The format takes pixels in [0, 1]: divide by 255 where they go to 255; where they are normalised, "
            "multiply by the data set's deviation, add its mean, and clip.",
        )  # fmt: skip
    return DistilledSet(images.float().clamp(0, 1), *classes_and_logits(labels, len(images), folder / LABELS))


def write_dd_ranking(folder: Path, distilled: DistilledSet) -> None:
    """Write a set in this layout, with its soft labels where it has some.

    Raises:
        ArtifactError: If something cannot be written.
    """
    made(folder)
    write_torch(folder / IMAGES, distilled.images)
    write_torch(folder / LABELS, distilled.labels if distilled.soft_labels is None else distilled.soft_labels)
