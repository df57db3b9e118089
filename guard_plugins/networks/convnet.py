"""ConvNet-D, the standard architecture of dataset condensation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from torch import nn

from guard_plugins.networks.activations import activation_layer

if TYPE_CHECKING:
    from torch import Tensor

    from guard_plugins.networks.base import NetworkRequest

Norm = Literal["instance", "batch"]


class ConvNet(nn.Module):
    """``depth`` blocks of 3x3 convolution, normalisation, activation and 2x2 average pooling, then a linear layer.

    Source: Gidaris & Komodakis 2018 as used by Zhao et al., "Dataset Condensation with Gradient Matching" (ICLR 2021),
    whose "instance norm" is a group normalisation with one group per channel and affine parameters.

    Args:
        request: Image shape (C, H, W), classes and activation; the sides must be at least ``2 ** depth``.
        depth: Number of blocks.
        norm: ``instance`` or ``batch``.
        width: Channels of every block.
    """

    def __init__(self, request: NetworkRequest, *, depth: int, norm: Norm, width: int = 128) -> None:
        super().__init__()
        channels, height, width_px = request.image_shape
        padding = _first_padding(height, width_px)
        blocks = [_block(channels if i == 0 else width, width, norm, request.activation, padding if i == 0 else 1)
                  for i in range(depth)]  # fmt: skip
        grown = 2 * (padding - 1)
        positions = ((height + grown) >> depth) * ((width_px + grown) >> depth)
        self.features = nn.Sequential(*blocks)
        self.classifier = nn.Linear(width * positions, request.classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, classes) of normalised images (B, C, H, W)."""
        logits: Tensor = self.classifier(self.features(images).flatten(1))
        return logits


def _first_padding(height: int, width: int) -> int:
    """Return 3 for MNIST-sized images, which the published code thereby grows from 28 to 32 pixels, else 1."""
    return 3 if (height, width) == (28, 28) else 1


def _block(channels: int, width: int, norm: Norm, activation: str, padding: int) -> nn.Sequential:
    normalisation = nn.BatchNorm2d(width) if norm == "batch" else nn.GroupNorm(width, width)
    return nn.Sequential(
        nn.Conv2d(channels, width, kernel_size=3, padding=padding),
        normalisation,
        activation_layer(activation),
        nn.AvgPool2d(2),
    )
