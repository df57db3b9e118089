"""The inverse of a whitening (ZCA), from a file beside the whitened images."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from guard_plugins.artifacts.formats.pixels import clipped
from guard_plugins.artifacts.formats.tensors import is_tensor
from guard_plugins.artifacts.formats.torch_files import read_torch
from guard_plugins.artifacts.sets.distilled import DistilledSetError

INVERSE: Final = "zca.pt"
"""File beside whitened images: ``{'mean': (D,), 'inverse': (D, D)}``, D = C x H x W; kornia's names do as well."""

_MEANS: Final = ("mean", "mean_vector")
_INVERSES: Final = ("inverse", "transform_inv")


def undo_whitening(images: Tensor, path: Path) -> Tensor:
    """Return pixels in [0, 1] of whitened images: ``image @ inverse + mean``, as ``zca.pt`` beside them has both.

    Args:
        images: Whitened, shape (N, C, H, W).
        path: Their file.

    Raises:
        DistilledSetError: If ``zca.pt`` is damaged or does not fit the images.
    """
    file = path.parent / INVERSE
    content, length = read_torch(file), images[0].numel()
    content = content if isinstance(content, dict) else {}
    mean, inverse = _entry(content, _MEANS, (length,)), _entry(content, _INVERSES, (length, length))
    if mean is None or inverse is None:
        raise DistilledSetError(
            f"{file} does not hold the inverse of a whitening of these images",
            seen=f"entries: {', '.join(map(str, list(content)[:6])) or 'none'}",
            do=f"It must hold floating-point 'mean' ({length},) and 'inverse' ({length}, {length}).",
        )
    pixels = images.float().flatten(1) @ inverse.float() + mean.float().reshape(1, -1)
    return clipped(pixels.view_as(images), path, seen=f"whitened images, undone with {file.name}")


def _entry(content: dict[Any, Any], names: tuple[str, ...], shape: tuple[int, ...]) -> Tensor | None:
    """Return the entry under one of the names if it is a floating-point tensor of a shape, leading ones apart."""
    value = next((content[name] for name in names if name in content), None)
    if not is_tensor(value) or value.is_meta or value.layout != torch.strided:
        return None
    fits = value.numel() == torch.Size(shape).numel() and tuple(value.shape[-len(shape) :]) == shape
    return value if fits and value.is_floating_point() and bool(torch.isfinite(value).all()) else None
