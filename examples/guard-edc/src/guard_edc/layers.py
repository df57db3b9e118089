"""The layers of the backbones."""

from __future__ import annotations

from typing import Any, Final

import torchvision
from torch import Tensor, nn

from guard_plugins.networks.base import NetworkRequest

ACTIVATIONS: Final = {"relu": nn.ReLU, "silu": nn.SiLU, "gelu": nn.GELU}


def conv_net(request: NetworkRequest, *, depth: int, width: int) -> nn.Module:
    """Return blocks of convolution, instance norm, activation and average pooling, then a linear layer.

    Args:
        request: What is asked of the network.
        depth: Number of blocks.
        width: Channels of every block.
    """
    channels, height, columns = request.image_shape
    layers: list[nn.Module] = []
    for block in range(depth):
        layers += [nn.Conv2d(width if block else channels, width, 3, padding=1), nn.GroupNorm(width, width)]
        layers += [ACTIVATIONS[request.activation](), nn.AvgPool2d(2)]
    positions = (height >> depth) * (columns >> depth)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * positions, request.classes))


class _Block(nn.Module):
    """Norm, activation and convolution, twice, around a shortcut that begins after the first activation."""

    def __init__(self, channels: int, width: int, stride: int, activation: str) -> None:
        super().__init__()
        self.begin = nn.Sequential(nn.BatchNorm2d(channels), ACTIVATIONS[activation]())
        self.rest = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(width), ACTIVATIONS[activation](), nn.Conv2d(width, width, 3, padding=1, bias=False),
        )  # fmt: skip
        self.shortcut = None if channels == width else nn.Conv2d(channels, width, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        begun = self.begin(x)
        out: Tensor = self.rest(begun) + (x if self.shortcut is None else self.shortcut(begun))
        return out


def wide_res_net(request: NetworkRequest, *, blocks: int, widen: int) -> nn.Module:
    """Return a wide residual network of ``6 * blocks + 4`` layers.

    Args:
        request: What is asked of the network.
        blocks: Blocks in each of the three stages.
        widen: Factor on the 16, 32 and 64 channels.
    """
    layers: list[nn.Module] = [nn.Conv2d(request.image_shape[0], 16, 3, padding=1, bias=False)]
    channels = 16
    for stage, width in enumerate((16 * widen, 32 * widen, 64 * widen)):
        for block in range(blocks):
            layers.append(_Block(channels, width, 2 if stage and not block else 1, request.activation))
            channels = width
    layers += [nn.BatchNorm2d(channels), ACTIVATIONS[request.activation](), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(channels, request.classes))


def mobile_net(request: NetworkRequest) -> nn.Module:
    """Return torchvision's MobileNetV2 with a first convolution of stride 1."""
    network: Any = torchvision.models.mobilenet_v2(weights=None, num_classes=request.classes)
    network.features[0][0] = nn.Conv2d(request.image_shape[0], 32, 3, padding=1, bias=False)
    return _with_activation(network, request.activation)


def shuffle_net(request: NetworkRequest) -> nn.Module:
    """Return torchvision's ShuffleNetV2 x0.5 with a first convolution of stride 1 and no pooling after it."""
    network: Any = torchvision.models.shufflenet_v2_x0_5(weights=None, num_classes=request.classes)
    network.conv1[0] = nn.Conv2d(request.image_shape[0], 24, 3, padding=1, bias=False)
    network.maxpool = nn.Identity()
    return _with_activation(network, request.activation)


def _with_activation(network: nn.Module, activation: str) -> nn.Module:
    """Replace the activations unless the network's own are asked for."""
    if activation == "relu":
        return network
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU | nn.ReLU6):
                setattr(module, name, ACTIVATIONS[activation]())
    return network
