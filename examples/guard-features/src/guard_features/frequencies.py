"""The frequencies at which characteristic functions are compared: random ones, or what a network makes of them."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor, nn

LEAST_DEVIATION: Final = 1e-3
"""A feature that hardly varies would otherwise get frequencies without limit."""


class FrequencyNetwork(nn.Module):
    """Turns random frequencies into those at which two sets of features differ more (NCFM, arXiv 2502.20653).

    The images lower the distance while this network raises it. As published it has three linear layers, each with
    BatchNorm over the frequencies, then leaky ReLUs and a tanh. What it gives is added to the random frequencies here,
    and is 0 at first, since the last BatchNorm multiplies by 0: a run starts at the random frequencies, and no
    coordinate moves by more than the largest scale.

    Args:
        dimensions: Number of features D.
        scale: Largest scale of a random frequency.
        generator: Source of the first weights, on the CPU.
    """

    def __init__(self, dimensions: int, scale: float, generator: torch.Generator) -> None:
        super().__init__()
        self._unit = scale / math.sqrt(dimensions)
        layers: list[nn.Module] = []
        for activation in (nn.LeakyReLU(0.2), nn.LeakyReLU(0.2), nn.Tanh()):
            # The layer itself would take its first weights from the global stream. BatchNorm makes a bias needless.
            linear = nn.utils.skip_init(nn.Linear, dimensions, dimensions, bias=False)
            nn.init.normal_(linear.weight, std=1 / math.sqrt(dimensions), generator=generator)
            norm = nn.BatchNorm1d(dimensions, track_running_stats=False)
            layers += [linear, norm, activation]
        nn.init.zeros_(norm.weight)
        self.layers = nn.Sequential(*layers)

    def forward(self, drawn: Tensor) -> Tensor:
        """Return frequencies (F, D) for random ones (F, D), both in units of 1 / (deviation of a feature)."""
        moved: Tensor = self.layers(drawn / self._unit)
        return drawn + self._unit * moved


def draw_frequencies(
    real: Tensor, count: int, scale: float, generator: torch.Generator, *, network: FrequencyNetwork | None = None
) -> Tensor:
    """Return frequencies for features like these, shape (count, D).

    Each is normally distributed with a scale of its own, uniform up to ``scale``, in units of one over the standard
    deviation of every feature and over the root of their number, so that phases spread over a circle or less.

    Args:
        real: Features of real images, shape (B, D).
        count: Number of frequencies.
        scale: Largest scale.
        generator: Source of the draws, on the CPU.
        network: What moves them, in the same units; none leaves them random.
    """
    dimensions = real.shape[1]
    scales = scale * torch.rand(count, 1, generator=generator) / math.sqrt(dimensions)
    directions = torch.randn(count, dimensions, generator=generator)
    deviation = real.std(0, correction=0).clamp(min=LEAST_DEVIATION)
    drawn = (directions * scales).to(real)
    return (drawn if network is None else network(drawn)) / deviation
