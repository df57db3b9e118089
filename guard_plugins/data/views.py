"""Views: the boxes of stored images that are training images, and the soft labels on them."""

from __future__ import annotations

import torch
from torch import Tensor

from guard_plugins.errors import TrainingError


def grid_views(count: int, size: tuple[int, int], factor: int) -> Tensor:
    """Return views that cut every image into ``factor`` x ``factor`` tiles, row by row, int64 of shape (N, V, 4).

    Args:
        count: Number of images.
        size: Their (H, W), both divisible by the factor.
        factor: Tiles along each side.

    Raises:
        TrainingError: If a side is not divisible.
    """
    height, width = (side // factor for side in size)
    if (height * factor, width * factor) != size:
        raise TrainingError(f"Images of {size} pixels cannot be cut into {factor} x {factor} tiles of one size")
    tiles = [(row * height, column * width, height, width) for row in range(factor) for column in range(factor)]
    return torch.tensor(tiles).expand(count, -1, -1).clone()


def require_views(views: Tensor | None, images: Tensor) -> None:
    """Check the views of images (N, C, H, W).

    Raises:
        TrainingError: If they have another shape or type, or leave the images.
    """
    if views is None:
        return
    shaped = views.dim() == 3 and views.shape[::2] == (len(images), 4) and views.shape[1] > 0
    if not shaped or views.dtype != torch.int64:
        raise TrainingError(
            "The views of a distilled set must be boxes (N, V, 4), int64", seen=f"{tuple(views.shape)} {views.dtype}"
        )
    top, left, height, width = views.unbind(2)
    inside = (top >= 0) & (left >= 0) & (height > 0) & (width > 0)
    inside &= (height <= images.shape[2] - top) & (width <= images.shape[3] - left)
    if not bool(inside.all()):
        raise TrainingError("A view of a distilled set leaves its image", seen=str(views[~inside][0].tolist()))


def require_soft(soft: Tensor | None, images: int, views: int) -> None:
    """Check soft labels.

    Args:
        soft: The logits, or None.
        images: Number of stored images.
        views: Number of views of each.

    Raises:
        TrainingError: If they have another shape, or are not finite.
    """
    if soft is None:
        return
    fits = soft.dim() in (2, 3) and tuple(soft.shape[:-1]) in ((images,), (images, views))
    if not fits or not bool(torch.isfinite(soft).all()):
        raise TrainingError(
            "The soft labels of a distilled set must be finite logits (N, K) or (N, V, K)",
            seen=f"shape {tuple(soft.shape)}",
        )
