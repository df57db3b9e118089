"""Normalisation inside the model, so that everything outside it lives in pixels of [0, 1]."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from guard_plugins.networks.base import NetworkRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from guard_plugins.data.base import Data
    from guard_plugins.networks.base import Activation, Network


class Normalised(nn.Module):
    """A network on normalised images, as a model of pixels: ``network((x - mean) / std)``.

    Attributes:
        network: The inner network.
        mean: Per-channel mean, a buffer of shape (1, C, 1, 1).
        std: Per-channel standard deviation, a buffer of shape (1, C, 1, 1).

    Args:
        network: Maps normalised images (B, C, H, W) to logits (B, K).
        mean: Per-channel mean of the pixels in [0, 1].
        std: Per-channel standard deviation of the pixels in [0, 1].
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, *, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, K) of images in [0, 1], shape (B, C, H, W)."""
        logits: Tensor = self.network(self.normalise(images))
        return logits

    def normalise(self, images: Tensor) -> Tensor:
        """Return images (B, C, H, W) of [0, 1] in the space the inner network sees."""
        return (images - self.mean) / self.std

    def pixels(self, normalised: Tensor) -> Tensor:
        """Return normalised images (B, C, H, W) in pixel units, the inverse of `normalise` (not clamped)."""
        return normalised * self.std + self.mean


def build_normalised(architecture: Network, data: Data, *, activation: Activation = "relu") -> Normalised:
    """Return a freshly initialised network for a data set, with the data set's normalisation inside.

    Args:
        architecture: What to build; its weights come from PyTorch's global generator.
        data: Gives image shape, number of classes, mean and standard deviation.
        activation: The non-linearity to use.

    Raises:
        ConfigError: If the architecture cannot take such images.
    """
    request = NetworkRequest(image_shape=data.image_shape, classes=len(data.classes), activation=activation)
    return Normalised(architecture.build(request), mean=data.mean, std=data.std)
