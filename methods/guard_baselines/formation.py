"""Several reduced images in one stored image (multi-formation of IDC, arXiv 2205.14959)."""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from torch import Tensor
from torch.nn import functional as F

from guard_plugins.data.distilled import DistilledSet
from guard_plugins.data.views import grid_views
from guard_plugins.errors import ConfigError, DataError
from guard_plugins.runtime.task import Task


class FormationConfig(BaseModel):
    """How real images share a stored one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    formation: PositiveInt = Field(
        1, description="store K x K real images, each reduced to 1/K of its side, in one (IDC's multi-formation)"
    )


def joined(images: Tensor, factor: int) -> Tensor:
    """Return stored images of ``factor`` x ``factor`` reduced images each, side by side, row by row.

    Args:
        images: Those of every stored image, one after the other, shape (N x factor², C, H, W), in [0, 1].
        factor: Images along each side.
    """
    if factor == 1:
        return images
    height, width = images.shape[2:]
    small = F.interpolate(images, size=(height // factor, width // factor), mode="area")
    tiles = small.unflatten(0, (-1, factor, factor))  # (N, row, column, C, h, w)
    stored: Tensor = tiles.permute(0, 3, 1, 4, 2, 5).reshape(len(tiles), -1, height, width)
    return stored.clamp(0, 1)


def set_of(stored: Tensor, labels: Tensor, factor: int) -> DistilledSet:
    """Return the set of stored images, each of which is read as ``factor`` x ``factor`` training images.

    Args:
        stored: The images, shape (N, C, H, W), in [0, 1].
        labels: Their classes, shape (N,).
        factor: Training images along each side.
    """
    height, width = stored.shape[2:]
    views = grid_views(len(labels), (height, width), factor) if factor > 1 else None
    return DistilledSet(stored, labels, views=views)


def require_tiles(image_shape: tuple[int, int, int], factor: int, option: str) -> None:
    """Check that images can be cut into ``factor`` x ``factor`` tiles.

    Args:
        image_shape: Their shape (C, H, W).
        factor: Tiles along each side.
        option: What the user gave the factor with.

    Raises:
        ConfigError: If a side cannot be divided.
    """
    if any(side % factor for side in image_shape[1:]):
        raise ConfigError(
            f"The images cannot be cut into tiles of one size ({option})",
            seen=f"{factor} x {factor} tiles, images of {' x '.join(map(str, image_shape[1:]))} pixels",
            do="Choose a number that divides both sides.",
        )


def require_enough(task: Task, factor: int) -> None:
    """Check that every class has as many training images as are stored, ``task.ipc`` times ``factor`` x ``factor``.

    Args:
        task: The task.
        factor: Real images along each side of a stored one.

    Raises:
        DataError: If one has fewer.
    """
    counts = torch.bincount(task.data.train.labels, minlength=task.classes)
    short = [label for label, found in enumerate(counts.tolist()) if found < task.ipc * factor**2]
    if not short:
        return
    found, limit, least = int(counts[short[0]]), task.config.data.train_per_class, int(counts.min())
    # Raising the limit helps only if the class has as many images as the limit lets through.
    raised = f", or raise --data.train-per-class (now {limit})" if limit is not None and found >= limit else ""
    raise DataError(
        f"The class {task.data.classes[short[0]]!r} has {found} training images, fewer than --ipc asks for",
        seen=f"{found} images, --ipc {task.ipc}" + (f", {factor**2} in each" if factor > 1 else ""),
        do=f"Lower --ipc to {least // factor**2} or less{raised}.",
    )
