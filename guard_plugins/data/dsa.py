"""Differentiable Siamese augmentation: one random operation, the same for real and synthetic images.

Source: Zhao & Bilen, "Dataset Condensation with Differentiable Siamese Augmentation" (ICML 2021), with the operations
of Zhao et al., "Differentiable Augmentation for Data-Efficient GAN Training" (NeurIPS 2020). The released code seeds
anew before every number, which makes its two zooms equal and ties the three colour factors together; here every number
is drawn on its own, as the paper describes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from guard_plugins.data.dsa_names import PUBLISHED_STRATEGY as PUBLISHED_STRATEGY
from guard_plugins.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class SiameseStrength:
    """How strong each operation is; the defaults are the published ones.

    Attributes:
        brightness: Width of the interval around 0 that the added constant comes from, in units of the images.
        saturation: Upper end of the factor on the distance from the grey value, from 0.
        contrast: Half width of the interval around 1 that the factor on the distance from the mean comes from.
        crop: Largest shift, as a fraction of the side.
        cutout: Side of the blanked square, as a fraction of the side.
        flip: Probability of a flip.
        scale: Largest zoom and its inverse, drawn for each axis on its own.
        rotate: Largest angle in degrees, either way.
    """

    brightness: float = 1.0
    saturation: float = 2.0
    contrast: float = 0.5
    crop: float = 0.125
    cutout: float = 0.5
    flip: float = 0.5
    scale: float = 1.2
    rotate: float = 15.0


PUBLISHED_STRENGTH: Final = SiameseStrength()

Operation = Callable[[Tensor, SiameseStrength, torch.Generator], Tensor]


def siamese_augment(
    images: Tensor, strategy: str = PUBLISHED_STRATEGY, *, seed: int, strength: SiameseStrength = PUBLISHED_STRENGTH
) -> Tensor:
    """Return the batch under one operation of ``strategy``, drawn with its parameters from ``seed``.

    All images of the batch share the parameters, and so does every other batch of the same height and width that is
    given the same seed: call it once for the real and once for the synthetic images. Gradients flow to ``images``.
    Vacated pixels become 0, the mean colour in the normalised space the published strengths are meant for.

    Args:
        images: Normalised images, shape (B, C, H, W).
        strategy: Names of the operations to choose from, joined by underscores.
        seed: Decides the operation and its parameters; the global streams are not touched.
        strength: How strong the operations are.

    Raises:
        ConfigError: If ``strategy`` names no operation, or an unknown one.
    """
    operations = parse_strategy(strategy)
    generator = torch.Generator().manual_seed(seed)
    chosen = int(torch.randint(len(operations), (), generator=generator))
    return operations[chosen](images, strength, generator)


def parse_strategy(strategy: str) -> tuple[Operation, ...]:
    """Return the operations a strategy names.

    Raises:
        ConfigError: If it names none, or an unknown one.
    """
    names = strategy.split("_")
    unknown = [name for name in names if name not in _OPERATIONS]
    if unknown:
        raise ConfigError(
            f"There is no Siamese augmentation called {unknown[0]!r}.",
            seen=f"strategy {strategy!r}",
            do=f"Join some of {', '.join(_OPERATIONS)} with underscores, such as {PUBLISHED_STRATEGY}.",
        )
    return tuple(_OPERATIONS[name] for name in names)


def _uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))


def _integer(low: int, high: int, generator: torch.Generator) -> int:
    return int(torch.randint(low, high + 1, (), generator=generator))


def _color(images: Tensor, strength: SiameseStrength, generator: torch.Generator) -> Tensor:
    """Brightness, saturation and contrast, in this order."""
    images = images + _uniform(-strength.brightness / 2, strength.brightness / 2, generator)
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * _uniform(0, strength.saturation, generator)
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (images - mean) * _uniform(1 - strength.contrast, 1 + strength.contrast, generator)


def _crop(images: Tensor, strength: SiameseStrength, generator: torch.Generator) -> Tensor:
    height, width = images.shape[-2:]
    most = [int(side * strength.crop + 0.5) for side in (height, width)]
    down, right = (most[i] + _integer(-most[i], most[i], generator) for i in range(2))
    padded = F.pad(images, (most[1], most[1], most[0], most[0]))
    return padded[..., down : down + height, right : right + width]


def _cutout(images: Tensor, strength: SiameseStrength, generator: torch.Generator) -> Tensor:
    kept = torch.ones(images.shape[-2:], dtype=images.dtype)
    spans = []
    for side in images.shape[-2:]:
        length = int(side * strength.cutout + 0.5)
        # The square may hang over the border by half its side, so that every pixel is blanked about equally often.
        start = _integer(0, side - length % 2, generator) - length // 2
        spans.append(slice(max(start, 0), max(start + length, 0)))
    kept[spans[0], spans[1]] = 0
    return images * kept.to(images.device)


def _flip(images: Tensor, strength: SiameseStrength, generator: torch.Generator) -> Tensor:
    return images.flip(-1) if _uniform(0, 1, generator) < strength.flip else images


def _scale(images: Tensor, strength: SiameseStrength, generator: torch.Generator) -> Tensor:
    across, down = (_uniform(1 / strength.scale, strength.scale, generator) for _ in range(2))
    return _affine(images, [[across, 0, 0], [0, down, 0]])


def _rotate(images: Tensor, strength: SiameseStrength, generator: torch.Generator) -> Tensor:
    angle = math.radians(_uniform(-strength.rotate, strength.rotate, generator))
    return _affine(images, [[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0]])


def _affine(images: Tensor, matrix: list[list[float]]) -> Tensor:
    """Sample the images where ``matrix`` sends the unit square, in [-1, 1] across and down, 0 outside."""
    theta = torch.tensor(matrix, dtype=images.dtype).expand(len(images), 2, 3).to(images.device)
    grid = F.affine_grid(theta, list(images.shape), align_corners=True)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=True)


_OPERATIONS: Final[dict[str, Operation]] = {
    "color": _color,
    "crop": _crop,
    "cutout": _cutout,
    "flip": _flip,
    "scale": _scale,
    "rotate": _rotate,
}
