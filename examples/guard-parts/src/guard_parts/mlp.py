"""A network: a perceptron with two hidden layers."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Final

from guard_plugins.networks.base import Network, NetworkRequest

if TYPE_CHECKING:
    from torch import nn

WIDTH: Final = 64


class MLP(Network):
    """Two hidden layers with batch norm; for images of any size."""

    name = "mlp"
    summary = "perceptron of two hidden layers of 64 with batch norm"

    def build(self, request: NetworkRequest) -> nn.Module:
        """Return a perceptron with fresh weights."""
        from torch import nn

        activation = {"relu": nn.ReLU, "silu": nn.SiLU, "gelu": nn.GELU}[request.activation]
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(prod(request.image_shape), WIDTH), nn.BatchNorm1d(WIDTH), activation(),
            nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH), activation(),
            nn.Linear(WIDTH, request.classes),
        )  # fmt: skip
