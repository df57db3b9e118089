"""Images and labels as one pair of tensors: ``[images, labels]`` in a ``.pt`` file, and what DC's files list."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from guard_plugins.artifacts.formats.pixels import to_pixels
from guard_plugins.artifacts.formats.tensors import classes_and_logits, images_of
from guard_plugins.artifacts.formats.zca import INVERSE, undo_whitening
from guard_plugins.artifacts.sets.distilled import DistilledSetError
from guard_plugins.data.distilled import DistilledSet

_SEVERAL_IN_ONE: Final = re.compile(r"data(_best|_\d+|\d+)?\.pt")
"""File names of IDC and DREAM, which keep several small images in one."""


def pair_in(content: Any) -> tuple[Any, Any] | None:
    """Return images and labels where a file's content is one pair of them, as a list or a dict; None elsewhere."""
    if isinstance(content, dict) and "images" in content and "labels" in content:
        return content["images"], content["labels"]
    if isinstance(content, (list, tuple)) and len(content) == 2 and all(isinstance(part, Tensor) for part in content):
        return content[0], content[1]
    return None


def read_pair(
    images: Any, labels: Any, path: Path, *, mean: Sequence[float], std: Sequence[float], lr: float | None = None
) -> DistilledSet:  # fmt: skip
    """Return a set from what a file holds as images and labels.

    Args:
        images: Of any range that :mod:`~guard_plugins.artifacts.formats.pixels` knows, or whitened beside a ``zca.pt``.
        labels: Classes (N,), or soft labels (N, K) as logits or probabilities.
        path: The file.
        mean: Per-channel mean of the data set, for normalised images.
        std: Per-channel standard deviation, likewise.
        lr: Learned rate of the students, where there is one.

    Raises:
        DistilledSetError: If something in it is not what it should be.
    """
    stored = images_of(images, path)
    classes, logits = classes_and_logits(labels, len(stored), path)
    whitened = stored.is_floating_point() and (path.parent / INVERSE).is_file()
    pixels = undo_whitening(stored, path) if whitened else to_pixels(stored, path, mean=mean, std=std)
    return DistilledSet(pixels, classes, logits, lr)


def require_one_image_each(path: Path) -> None:
    """Refuse the files of IDC and DREAM by their name: how to take their images apart is not in them.

    Raises:
        DistilledSetError: If it is such a file.
    """
    if _SEVERAL_IN_ONE.fullmatch(path.name):
        raise DistilledSetError(
            f"{path} seems to come from IDC or DREAM, whose images hold several smaller ones each",
            seen=f"the name {path.name}, and one pair of images and labels",
            do="The file does not say the decode factor. Decode the images with that code base (--factor), save "
            "[images, labels] under another name, and give that; or rename the file if its factor is 1.",
        )
