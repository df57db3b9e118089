"""Other people's ``.pt`` files: read without unpickling code, and checked before anything is made of them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from guard_plugins.artifacts.atomic import cannot_write, replacing
from guard_plugins.errors import ArtifactError


def read_torch(path: Path) -> Any:
    """Return what a ``.pt`` file holds; only tensors, plain containers and NumPy numbers are let through.

    Raises:
        ArtifactError: If it is missing, damaged, or holds anything else.
    """
    try:
        with torch.serialization.safe_globals(_numpy_numbers()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        reason = str(error).strip().splitlines()
        raise ArtifactError(
            f"{path} is not a .pt file that can be read safely",
            seen=f"{type(error).__name__}: {reason[0] if reason else ''}",
            do="It must hold tensors, lists, dicts and numbers only; nothing else is ever unpickled.",
        ) from error


def _numpy_numbers() -> list[Any]:
    """Return what NumPy numbers are rebuilt from: DC's files list accuracies as such beside the images."""
    scalar = np.float64(0).__reduce__()[0]
    names = [f"numpy.{core}.multiarray.scalar" for core in ("core", "_core")]  # as NumPy 1 and 2 write it
    return [np.dtype, type(np.dtype("float64")), type(np.dtype("float32")), *((scalar, name) for name in names)]


def write_torch(path: Path, value: Any) -> None:
    """Write a ``.pt`` file atomically.

    Raises:
        ArtifactError: If it cannot be written.
    """
    with replacing(path) as part:
        try:
            torch.save(value, part)
        except RuntimeError as error:  # what its archive writer makes of a failed write
            raise cannot_write(path, error) from error


def images_of(value: Any, path: Path) -> Tensor:
    """Return ``value`` as float32 images (N, C, H, W), owning their memory.

    Raises:
        ArtifactError: If it is not such a tensor, is empty, or holds NaN.
    """
    if not (isinstance(value, Tensor) and value.dim() == 4 and value.numel() and value.shape[1] in (1, 3)):
        raise _wrong(path, "images (N, 1 or 3, H, W)", value)
    images = value.detach().float().clone()
    if not bool(torch.isfinite(images).all()):
        raise ArtifactError(f"The images in {path} are not finite numbers")
    return images


def labels_of(value: Any, count: int, path: Path) -> Tensor:
    """Return ``value`` as int64 labels (count,).

    Raises:
        ArtifactError: If it is not such a tensor, or a label is negative.
    """
    if not (isinstance(value, Tensor) and value.shape == (count,) and not value.is_floating_point()):
        raise _wrong(path, f"whole-number labels ({count},)", value)
    if int(value.min()) < 0:
        raise ArtifactError(f"The labels in {path} must not be negative", seen=f"smallest: {int(value.min())}")
    return value.detach().long().clone()


def _wrong(path: Path, wanted: str, value: Any) -> ArtifactError:
    seen = f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
    return ArtifactError(f"{path} does not hold {wanted}", seen=seen)
