"""A three-stage residual network small enough to train on a CPU, for images from 4x4 pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from torch import nn

from guard_plugins.networks.activations import activation_layer

if TYPE_CHECKING:
    from torch import Tensor

    from guard_plugins.networks.base import NetworkRequest

WIDTHS: Final = (16, 32, 64)
"""Channels of the three stages, those of the CIFAR ResNets in He et al. 2016, section 4.2."""


class SmallResNet(nn.Module):
    """A 3x3 stem, one basic block of 16, 32 and 64 channels each, global average pooling, and a linear layer.

    Args:
        request: Image shape (C, H, W), classes and activation.
    """

    def __init__(self, request: NetworkRequest) -> None:
        super().__init__()
        first, *_, last = WIDTHS
        self.stem = nn.Sequential(
            nn.Conv2d(request.image_shape[0], first, 3, padding=1, bias=False),
            nn.BatchNorm2d(first),
            activation_layer(request.activation),
        )
        inputs = (first, *WIDTHS)
        self.stages = nn.Sequential(
            *(
                BasicBlock(inputs[i], width, stride=1 if i == 0 else 2, activation=request.activation)
                for i, width in enumerate(WIDTHS)
            )
        )
        self.classifier = nn.Linear(last, request.classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, classes) of normalised images (B, C, H, W)."""
        logits: Tensor = self.classifier(self.stages(self.stem(images)).mean((2, 3)))
        return logits


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation around a shortcut (He et al. 2016, projection shortcuts).

    Args:
        channels: Channels in.
        width: Channels out.
        stride: Stride of the first convolution and of the shortcut.
        activation: Name of the non-linearity.
    """

    def __init__(self, channels: int, width: int, *, stride: int, activation: str) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            activation_layer(activation),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.shortcut = nn.Identity() if (channels, stride) == (width, 1) else _projection(channels, width, stride)
        self.activation = activation_layer(activation)

    def forward(self, features: Tensor) -> Tensor:
        """Return features (B, width, H / stride, W / stride) of features (B, channels, H, W)."""
        out: Tensor = self.activation(self.residual(features) + self.shortcut(features))
        return out


def _projection(channels: int, width: int, stride: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, width, 1, stride=stride, bias=False), nn.BatchNorm2d(width))
