"""The running mean of a network's weights, which some recipes end with."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class WeightAverage:
    """The exponential mean of a network's parameters, from its first weights on.

    Buffers, such as the statistics of BatchNorm, are not averaged: they are running means of their own.

    Args:
        model: The network, with its first weights.
        decay: Share of the mean that a step keeps.
    """

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        self._decay = decay
        self._mean = {name: value.detach().clone() for name, value in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take the weights after a step into the mean."""
        for name, value in model.named_parameters():
            self._mean[name].lerp_(value, 1 - self._decay)

    @torch.no_grad()
    def give(self, model: nn.Module) -> None:
        """Give the mean to a network of the same shape."""
        for name, value in model.named_parameters():
            value.copy_(self._mean[name])

    def state_dict(self) -> dict[str, Tensor]:
        """Return the mean by the names of the parameters."""
        return dict(self._mean)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over a mean."""
        for name, value in self._mean.items():
            value.copy_(state[name])
