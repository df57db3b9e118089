"""Distances between two gradients of a network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal

import torch
from torch import Tensor, nn

Distance = Literal["layerwise", "mse", "cos"]
EPS: Final = 1e-6
"""Added to the denominator against a division by zero (published code)."""


def matched_parameters(network: nn.Module, distance: Distance) -> list[nn.Parameter]:
    """Return the parameters whose gradients are matched; the layer-wise distance leaves out biases and vectors."""
    return [weight for weight in network.parameters() if distance != "layerwise" or weight.dim() > 1]


def gradient_distance(synthetic: Sequence[Tensor], real: Sequence[Tensor], distance: Distance) -> Tensor:
    """Return the distance between two gradients, a scalar differentiable in ``synthetic``.

    ``layerwise`` is the published one (DC, arXiv 2006.05929, equation 10): for every weight tensor, as a matrix with a
    row per output unit, the sum over rows of 1 - cos. ``mse`` is the sum of squared differences and ``cos`` is 1 - cos,
    both over all tensors as one vector.

    Args:
        synthetic: Gradients of :func:`matched_parameters` on distilled images.
        real: The same on real images, detached.
        distance: The kind of distance.
    """
    if distance == "layerwise":
        return torch.stack([rows(s, r) for s, r in zip(synthetic, real, strict=True) if s.dim() > 1]).sum()
    s, r = _vector(synthetic), _vector(real)
    if distance == "mse":
        return (s - r).square().sum()
    return rows(s[None], r[None])


def rows(synthetic: Tensor, real: Tensor) -> Tensor:
    """Return the sum over the first dimension of 1 - cos, where cos is taken over all other dimensions."""
    s, r = synthetic.flatten(1), real.flatten(1)
    lengths: Tensor = torch.linalg.vector_norm(s, dim=1) * torch.linalg.vector_norm(r, dim=1)
    return (1 - (s * r).sum(1) / (lengths + EPS)).sum()


def _vector(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])
