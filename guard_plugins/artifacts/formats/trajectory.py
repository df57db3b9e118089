"""Folders of MTT, FTD, DATM and TESLA: ``images_best.pt`` and ``labels_best.pt``, DATM's with ``lr_best.pt``.

Images are normalised, or whitened (ZCA): then ``images_zca_N.pt`` holds those of iteration N with the whitening undone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from guard_plugins.artifacts.formats.pairs import read_pair
from guard_plugins.artifacts.formats.pixels import clipped
from guard_plugins.artifacts.formats.tensors import classes_and_logits, images_of, is_tensor
from guard_plugins.artifacts.formats.torch_files import read_torch
from guard_plugins.artifacts.formats.zca import INVERSE
from guard_plugins.artifacts.sets.distilled import DistilledSetError
from guard_plugins.data.distilled import DistilledSet

BEST: Final = "images_best.pt"
_IMAGES: Final = re.compile(r"images_(best|\d+)\.pt")
_UNDONE: Final = re.compile(r"images_zca_(\d+)\.pt")


def trajectory_file(path: Path) -> Path | None:
    """Return the file of images that a file, a folder or a folder with DATM's ``Normal/`` in it stands for."""
    if path.is_file():
        return path if _IMAGES.fullmatch(path.name) else None
    return next((file for file in (path / BEST, path / "Normal" / BEST) if file.is_file()), None)


def read_trajectory(path: Path, *, mean: Sequence[float], std: Sequence[float]) -> DistilledSet:
    """Return the set of one file of images and the labels, and the learned rate, beside it.

    Args:
        path: ``images_best.pt``, or ``images_N.pt`` of an iteration.
        mean: Per-channel mean the images were normalised with.
        std: Per-channel standard deviation, likewise.

    Raises:
        DistilledSetError: If a file is missing or damaged, or the whitening of the images cannot be undone.
    """
    which = path.name.removeprefix("images_")
    labels_file = path.with_name(f"labels_{which}")
    if not labels_file.is_file():
        raise DistilledSetError(f"There is no {labels_file.name} beside {path}", do="Put the labels beside the images.")
    images, labels, lr = read_torch(path), read_torch(labels_file), _learned_lr(path.with_name(f"lr_{which}"))
    undone = {int(m[1]): file for file in path.parent.iterdir() if (m := _UNDONE.fullmatch(file.name))}
    if undone and not (path.parent / INVERSE).is_file():
        return _undone(images_of(images, path), labels, path, undone, lr)
    return read_pair(images, labels, path, mean=mean, std=std, lr=lr)


def _undone(images: Tensor, labels: object, path: Path, undone: dict[int, Path], lr: float | None) -> DistilledSet:
    """Return the set whose pixels are in the file of the same iteration with the whitening undone."""
    for iteration, file in sorted(undone.items(), reverse=True):
        twin = path.with_name(f"images_{iteration}.pt")
        if twin == path or (twin.is_file() and _equal(read_torch(twin), images)):
            found = images_of(read_torch(file), file)
            low, high = (float(value) for value in found.aminmax())
            pixels = clipped(found.float(), file, seen=f"numbers from {low:.4g} to {high:.4g}")
            return DistilledSet(pixels, *classes_and_logits(labels, len(pixels), path), lr)
    raise DistilledSetError(
        f"The images in {path} are whitened (ZCA), and their iteration is not known",
        seen=f"{', '.join(sorted(file.name for file in undone.values())[:4])} beside it, none made of the same images",
        do=f"Put the images_N.pt of that iteration beside {path.name}; or {INVERSE}, a dict with the whitening's "
        "'mean' and 'inverse'.",
    )


def _equal(content: object, images: Tensor) -> bool:
    return is_tensor(content) and content.shape == images.shape and torch.equal(content.detach().float(), images)


def _learned_lr(file: Path) -> float | None:
    """Return the learned rate of the students in a file; None where there is no file."""
    if not file.is_file():
        return None
    value = read_torch(file)
    number = float(value) if _is_scalar(value) else math.nan
    if not (math.isfinite(number) and number > 0):
        raise DistilledSetError(f"{file} does not hold a learning rate above 0", seen=str(value)[:60])
    return number


def _is_scalar(value: Any) -> bool:
    if not isinstance(value, Tensor):
        return isinstance(value, (int, float))
    return (
        not value.is_nested
        and value.numel() == 1
        and not (value.is_meta or value.is_complex() or value.layout != torch.strided)
    )
