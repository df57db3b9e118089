"""Which known architectures come closest to the weights of a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from guard_plugins.artifacts.weights.matching import matches
from guard_plugins.networks.base import NetworkRequest

if TYPE_CHECKING:
    from guard_plugins.networks.base import Network

LEAST: Final = 0.3
"""Share of names and shapes that must agree for an architecture to be named."""


@dataclass(frozen=True)
class Close:
    """An architecture, and how many of the tensors on either side agree in name and shape."""

    name: str
    agree: int
    total: int

    def __str__(self) -> str:
        whole = "all" if self.agree == self.total else str(self.agree)
        return f"{self.name} ({whole} of {self.total} tensors agree)"


def closest(
    weights: Mapping[str, Tensor], networks: Mapping[str, type[Network]], *, image_shape: tuple[int, int, int],
    classes: int,
) -> list[Close]:  # fmt: skip
    """Return up to three architectures whose names and shapes come closest, best first.

    Args:
        weights: Tensors by their names in the file.
        networks: The architectures by name.
        image_shape: (C, H, W) of the images.
        classes: Number of classes.
    """
    request = NetworkRequest(image_shape=image_shape, classes=classes)
    scored = []
    for name, network in networks.items():
        target = _shapes(network, request)
        found = matches(weights, target) if target else []
        best = max(found, key=lambda match: match.score, default=None)
        if best is not None and best.score >= LEAST:
            total = len(best.source) + len(best.missing) + len(best.reshaped) + len(best.extra)
            scored.append((best.score, Close(name, len(best.source), total)))
    scored.sort(key=lambda entry: -entry[0])
    return [close for _, close in scored[:3]]


def _shapes(network: type[Network], request: NetworkRequest) -> Mapping[str, Tensor]:
    """Return the network's weights without data, or nothing where it cannot be built for such images."""
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            return network().build(request).state_dict()
    except Exception:  # a plugin's network may raise anything, and this only serves a hint
        return {}
