"""From the numbers of other code bases' images to pixels in [0, 1]: which range they are in is read off, or refused.

Files say nothing of their range. What is taken for certain: integers and floats of 0..255, floats of 0..1 and of -1..1,
and normalised floats, whose deviation is near 1. All else is refused with the range that was found.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from guard_plugins.artifacts.sets.distilled import DistilledSetError

_LEAST_OF_255: Final = 16.0
"""A maximum above this belongs to 0..255: normalised pixels stay far below it."""
_EDGE: Final = 0.02
"""How far from -1 and 1 the extremes of pixels in -1..1 may stay."""
ROUNDING: Final = 0.5 / 255
"""How far floats may leave the range that they are meant for: normalising and back, in half precision too, does so."""
_LEAST_DEVIATION: Final = 0.5
_WHITE_DEVIATION: Final = 0.75
_WHITE_CORRELATION: Final = 0.75
"""Normalised images: deviation about 1, neighbouring pixels correlated above 0.9 (0.8 under heavy noise). Whitened
CIFAR-10, with regularisation 0.1 to 0.001: deviation 0.25 to 0.55, correlation 0.65 to 0.3."""
_MOST_CLIPPED: Final = 0.5

_DO: Final = "Store the images as floats in [0, 1] (a DD-Ranking folder with images.pt and labels.pt), or as uint8."


def to_pixels(images: Tensor, path: Path, *, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Return images of a file as float32 pixels in [0, 1].

    The published codes never clip their normalised images; what leaves [0, 1] is clipped here, as every display does.

    Args:
        images: As stored, shape (N, C, H, W).
        path: The file, for messages.
        mean: Per-channel mean of the data set, for normalised images.
        std: Per-channel standard deviation, likewise.

    Raises:
        DistilledSetError: If the range is none that is known, the images are whitened, or the channels differ from
            ``mean``.
    """
    if len(mean) != images.shape[1]:
        raise DistilledSetError(
            f"The images in {path} have another number of channels than the data set",
            seen=f"{images.shape[1]} channels, normalisation for {len(mean)}",
        )
    low, high = (float(value) for value in images.aminmax())
    if not images.is_floating_point():
        if low >= 0 and _LEAST_OF_255 < high <= 255:
            return images.float() / 255
        raise _unknown(path, low, high, "whole numbers must cover 0..255")
    if low >= -ROUNDING and high <= 1 + ROUNDING:
        return images.clamp(0, 1)
    if low >= -255 * ROUNDING and _LEAST_OF_255 < high <= 255 * (1 + ROUNDING):
        return (images / 255).clamp(0, 1)
    if low >= 0:
        raise _unknown(path, low, high, "no pixel is negative, so the images are not normalised; nor are they 0..255")
    if -2 * ROUNDING <= low + 1 < _EDGE and -_EDGE < high - 1 <= 2 * ROUNDING:
        return ((images + 1) / 2).clamp(0, 1)
    _require_normalised(images, path, low, high)
    pixels = images * _channels(std) + _channels(mean)
    return clipped(pixels, path, seen=f"stored numbers from {low:.4g} to {high:.4g}")


def clipped(pixels: Tensor, path: Path, *, seen: str) -> Tensor:
    """Return pixels cut to [0, 1], unless most of them would be cut.

    Args:
        pixels: Shape (N, C, H, W).
        path: The file, for messages.
        seen: What the message says of the stored numbers.

    Raises:
        DistilledSetError: If more than half of the pixels leave [0, 1].
    """
    outside = float(((pixels < 0) | (pixels > 1)).float().mean())
    if outside > _MOST_CLIPPED:
        raise DistilledSetError(
            f"The images in {path} are not in a range that is known",
            seen=f"{seen}; taken as normalised, {outside:.0%} of the pixels would leave [0, 1]", do=_DO,
        )  # fmt: skip
    return pixels.clamp(0, 1)


def neighbour_correlation(images: Tensor) -> float:
    """Return the correlation of horizontally neighbouring pixels: about 0.9 for photographs, 0 for noise."""
    centred = images.double() - images.double().mean((0, 2, 3), keepdim=True)
    power = float(centred.square().mean())
    if images.shape[-1] < 2 or power == 0:
        return 1.0
    return float((centred[..., 1:] * centred[..., :-1]).mean()) / power


def normalised(pixels: Tensor, *, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Return pixels in [0, 1] with the mean taken off and divided by the deviation.

    Args:
        pixels: Shape (N, C, H, W).
        mean: Per-channel mean.
        std: Per-channel standard deviation.
    """
    return (pixels - _channels(mean)) / _channels(std)


def _require_normalised(images: Tensor, path: Path, low: float, high: float) -> None:
    deviation = float((images - images.mean((0, 2, 3), keepdim=True)).square().mean().sqrt())
    if deviation < _WHITE_DEVIATION and (correlation := neighbour_correlation(images)) < _WHITE_CORRELATION:
        raise DistilledSetError(
            f"The images in {path} seem to be whitened (ZCA), and whitened numbers are not pixels",
            seen=f"numbers from {low:.4g} to {high:.4g}, deviation {deviation:.2g} (normalised images: about 1), "
            f"correlation of neighbours {correlation:.2g}",
            do=f"Put {path.parent / 'zca.pt'} beside it, a dict with the whitening's 'mean' (D,) and 'inverse' (D, D); "
            "or store the images with the whitening undone, in [0, 1].",
        )
    if low >= -1 and high <= 1:
        raise _unknown(path, low, high, "too few for normalised images, and short of -1 and 1")
    if deviation < _LEAST_DEVIATION:
        raise _unknown(path, low, high, f"their deviation is {deviation:.2g}; that of normalised images is about 1")


def _unknown(path: Path, low: float, high: float, why: str) -> DistilledSetError:
    return DistilledSetError(
        f"The images in {path} are not in a range that is known",
        seen=f"numbers from {low:.4g} to {high:.4g}: {why}", do=_DO,
    )  # fmt: skip


def _channels(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1)
