"""The files of DC, DSA and DM: ``{'data': [[images, labels], ...], 'accs_all_exps': {...}}``, images normalised."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from guard_plugins.artifacts.formats.pairs import read_pair
from guard_plugins.artifacts.formats.pixels import clipped, normalised
from guard_plugins.artifacts.formats.tensors import images_of
from guard_plugins.artifacts.formats.torch_files import read_torch, write_torch
from guard_plugins.artifacts.sets.distilled import DistilledSetError
from guard_plugins.data.distilled import DistilledSet

NORMALISED: Final = "normalised"
"""Key of our own files with mean and deviation; in others the range says that the images are normalised."""
_BOTH: Final = ("mean", "std")


def read_dc(path: Path, *, mean: Sequence[float], std: Sequence[float], experiment: int = 0) -> DistilledSet:
    """Return one distilled set of a file.

    Args:
        path: The ``.pt`` file.
        mean: Per-channel mean its images were normalised with.
        std: Per-channel standard deviation, likewise.
        experiment: Which of its sets (a file has one per experiment).

    Raises:
        DistilledSetError: If the file is not of this format, or has no such experiment.
    """
    content = read_torch(path)
    pairs = _pairs(content, path)
    if not -len(pairs) <= experiment < len(pairs):
        raise DistilledSetError(f"{path} has no experiment {experiment}", seen=f"{len(pairs)} sets, counted from 0")
    images, labels = pairs[experiment]
    said = content.get(NORMALISED)
    if said is not None:
        images = _pixels(images, said, path)
    return read_pair(images, labels, path, mean=mean, std=std)


def write_dc(path: Path, distilled: DistilledSet, *, mean: Sequence[float], std: Sequence[float]) -> None:
    """Write a distilled set as the only experiment of a file; the float images are kept, up to their rounding.

    Args:
        path: The ``.pt`` file.
        distilled: The set.
        mean: Per-channel mean to normalise with.
        std: Per-channel standard deviation, likewise.

    Raises:
        ArtifactError: If it cannot be written.
    """
    images = normalised(distilled.images, mean=mean, std=std)
    said = {"mean": [*mean], "std": [*std]}
    write_torch(path, {"data": [[images, distilled.labels]], "accs_all_exps": {}, NORMALISED: said})


def _pixels(images: Any, said: Any, path: Path) -> Tensor:
    """Return the pixels of images that say how they were normalised."""
    stored = images_of(images, path)
    try:
        mean, std = (torch.tensor(said[name], dtype=torch.float32).view(1, stored.shape[1], 1, 1) for name in _BOTH)
    except (LookupError, TypeError, ValueError, RuntimeError) as error:
        raise DistilledSetError(
            f"{path} says wrongly how its images were normalised", seen=f"{NORMALISED!r}: {said!r}"[:200],
            do=f"It must be a dict of 'mean' and 'std' with a number per channel; or take {NORMALISED!r} away.",
        ) from error  # fmt: skip
    return clipped(stored * std + mean, path, seen="normalised images")


def _pairs(content: Any, path: Path) -> list[Any]:
    pairs = content.get("data") if isinstance(content, dict) else None
    if not (isinstance(pairs, list) and pairs and all(isinstance(p, (list, tuple)) and len(p) == 2 for p in pairs)):
        raise DistilledSetError(
            f"{path} is not a file of DC's format", seen=f"{type(content).__name__} at the top",
            do="It must be a dict whose 'data' lists [images, labels] pairs, or one [images, labels] pair.",
        )  # fmt: skip
    return pairs
