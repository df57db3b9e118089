"""How far the features of images are from those of real ones."""

from __future__ import annotations

import torch
from torch import Tensor


def mean_distance(synthetic: Tensor, real: Tensor) -> Tensor:
    """Return the squared distance of the mean features, a scalar (DM, arXiv 2110.04181, equation 4).

    Args:
        synthetic: Features of the images, shape (A, D).
        real: Features of real images, shape (B, D).
    """
    return (real.mean(0) - synthetic.mean(0)).square().sum()


def anchor_distance(synthetic: Tensor, anchors: Tensor) -> Tensor:
    """Return the mean over images of the squared distance to the features of the real image each one starts from.

    Args:
        synthetic: Features of the images, shape (A, D).
        anchors: Features of their real images, shape (A, D).
    """
    return (anchors - synthetic).square().sum(1).mean()


def characteristic_distance(synthetic: Tensor, real: Tensor, frequencies: Tensor, *, amplitude: float = 0.5) -> Tensor:
    """Return the mean over frequencies t of how far mean exp(i t·synthetic) is from mean exp(i t·real), a scalar.

    Two distributions are equal where their characteristic functions are (NCFM, arXiv 2502.20653). With amplitudes a
    and b, and the angle p between both complex numbers, the squared distance is (a - b)² + 2 a b (1 - cos p). NCFM
    weighs both terms; here with 2 ``amplitude`` and 2 (1 - ``amplitude``).

    Args:
        synthetic: Features of the images, shape (A, D).
        real: Features of real images, shape (B, D).
        frequencies: Shape (F, D).
        amplitude: Share of the amplitudes' term; the rest is that of the phases.
    """
    mine, theirs = _means(synthetic @ frequencies.T), _means(real @ frequencies.T)
    squared = (mine - theirs).square().sum(0)
    if amplitude == 0.5:
        return squared.mean()
    amplitudes = (_modulus(mine) - _modulus(theirs)).square()
    return 2 * (amplitude * amplitudes + (1 - amplitude) * (squared - amplitudes)).mean()


def _means(phases: Tensor) -> Tensor:
    return torch.stack([phases.cos().mean(0), phases.sin().mean(0)])


def _modulus(points: Tensor) -> Tensor:
    # The least number, so that the gradient at 0 is 0 instead of none.
    return (points.square().sum(0) + torch.finfo(points.dtype).tiny).sqrt()
