"""The files of DC, DSA and DM: ``{'data': [[images, labels], ...], 'accs_all_exps': {...}}``, images normalised."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from guard_plugins.artifacts.formats.torch_files import images_of, labels_of, read_torch, write_torch
from guard_plugins.data.distilled import DistilledSet
from guard_plugins.errors import ArtifactError


def read_dc(path: Path, *, mean: Sequence[float], std: Sequence[float], experiment: int = 0) -> DistilledSet:
    """Return one distilled set of a file.

    The published code never clips its images; what leaves [0, 1] is clipped here, as every display of them does.

    Args:
        path: The ``.pt`` file.
        mean: Per-channel mean its images were normalised with.
        std: Per-channel standard deviation, likewise.
        experiment: Which of its sets (a file has one per experiment).

    Raises:
        ArtifactError: If the file is not of this format, or has no such experiment.
    """
    pairs = _pairs(read_torch(path), path)
    if not -len(pairs) <= experiment < len(pairs):
        raise ArtifactError(f"{path} has no experiment {experiment}", seen=f"{len(pairs)} sets, counted from 0")
    pixels = images_of(pairs[experiment][0], path)
    if len(mean) != pixels.shape[1]:
        raise ArtifactError(
            f"The images in {path} have another number of channels than the data set",
            seen=f"{pixels.shape[1]} channels, normalisation for {len(mean)}",
        )
    labels = labels_of(pairs[experiment][1], len(pixels), path)
    return DistilledSet((pixels * _channels(std) + _channels(mean)).clamp(0, 1), labels)


def write_dc(path: Path, distilled: DistilledSet, *, mean: Sequence[float], std: Sequence[float]) -> None:
    """Write a distilled set as the only experiment of a file; the float images are kept as they are.

    Args:
        path: The ``.pt`` file.
        distilled: The set.
        mean: Per-channel mean to normalise with.
        std: Per-channel standard deviation, likewise.

    Raises:
        ArtifactError: If it cannot be written.
    """
    normalised = (distilled.images - _channels(mean)) / _channels(std)
    write_torch(path, {"data": [[normalised, distilled.labels]], "accs_all_exps": {}})


def _pairs(content: Any, path: Path) -> list[Any]:
    pairs = content.get("data") if isinstance(content, dict) else None
    if not (isinstance(pairs, list) and pairs and all(isinstance(p, (list, tuple)) and len(p) == 2 for p in pairs)):
        raise ArtifactError(
            f"{path} is not a file of DC's format", seen=f"{type(content).__name__} at the top",
            do="It must be a dict whose 'data' lists [images, labels] pairs.",
        )  # fmt: skip
    return pairs


def _channels(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1)
