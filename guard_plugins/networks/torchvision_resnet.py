"""torchvision's ResNets with the stem the field gives them for small images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import torchvision
from torch import nn

from guard_plugins.networks.activations import replace_relu

if TYPE_CHECKING:
    from guard_plugins.networks.base import NetworkRequest

SMALL_IMAGE: Final = 112
"""Images with a side below this many pixels get the small-image stem."""

ResNetName = Literal["resnet18", "resnet34", "resnet50"]


def build_resnet(name: ResNetName, request: NetworkRequest) -> nn.Module:
    """Return a freshly initialised torchvision ResNet.

    Below ``SMALL_IMAGE`` pixels the stem is a 3x3 convolution of stride 1 without max pooling, as in SRe2L's CIFAR and
    Tiny ImageNet teachers; from there on it is torchvision's own (7x7 of stride 2, then max pooling).

    Args:
        name: Which of torchvision's constructors.
        request: Image shape (C, H, W), classes and activation.
    """
    constructors = {
        "resnet18": torchvision.models.resnet18,
        "resnet34": torchvision.models.resnet34,
        "resnet50": torchvision.models.resnet50,
    }
    network: nn.Module = constructors[name](weights=None, num_classes=request.classes)
    channels, height, width = request.image_shape
    if min(height, width) < SMALL_IMAGE:
        network.conv1 = _initialised(nn.Conv2d(channels, 64, 3, stride=1, padding=1, bias=False))
        network.maxpool = nn.Identity()
    elif channels != 3:
        network.conv1 = _initialised(nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False))
    replace_relu(network, request.activation)
    return network


def _initialised(convolution: nn.Conv2d) -> nn.Conv2d:
    """Draw the weights the way torchvision draws those of its other convolutions."""
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return convolution
