"""The built-in architectures as the plugin host sees them: names and summaries, without importing torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from guard_plugins.errors import ConfigError
from guard_plugins.networks.base import Network, NetworkRequest

if TYPE_CHECKING:
    from torch import nn


class SmallResNetNetwork(Network):
    """The CPU-sized residual network (`guard_plugins.networks.small_resnet.SmallResNet`)."""

    name = "small-resnet"
    summary = "residual network of 16-32-64 channels with batch norm, for CPUs and images from 4x4 pixels"

    def build(self, request: NetworkRequest) -> nn.Module:
        """Return a freshly initialised `SmallResNet`.

        Raises:
            ConfigError: If the images are smaller than 4x4 pixels.
        """
        from guard_plugins.networks.small_resnet import SmallResNet

        require_side(self.name, request.image_shape, 4)
        return SmallResNet(request)


class _ResNet(Network):
    name: ClassVar[Literal["resnet18", "resnet34", "resnet50"]]

    def build(self, request: NetworkRequest) -> nn.Module:
        """Return a freshly initialised torchvision ResNet with the stem that fits the images.

        Raises:
            ConfigError: If the images are smaller than 8x8 pixels.
        """
        from guard_plugins.networks.torchvision_resnet import build_resnet

        require_side(self.name, request.image_shape, 8)
        return build_resnet(self.name, request)


class ResNet18(_ResNet):
    """torchvision's ResNet-18."""

    name = "resnet18"
    summary = "torchvision ResNet-18; 3x3 stem without pooling below 112 pixels"


class ResNet34(_ResNet):
    """torchvision's ResNet-34."""

    name = "resnet34"
    summary = "torchvision ResNet-34; 3x3 stem without pooling below 112 pixels"


class ResNet50(_ResNet):
    """torchvision's ResNet-50."""

    name = "resnet50"
    summary = "torchvision ResNet-50; 3x3 stem without pooling below 112 pixels"


class _ConvNet(Network):
    depth: ClassVar[int]
    norm: ClassVar[Literal["instance", "batch"]]

    def build(self, request: NetworkRequest) -> nn.Module:
        """Return a freshly initialised `ConvNet`.

        Raises:
            ConfigError: If a side of the images is below ``2 ** depth`` pixels.
        """
        from guard_plugins.networks.convnet import ConvNet

        require_side(self.name, request.image_shape, 2**self.depth)
        return ConvNet(request, depth=self.depth, norm=self.norm)


class ConvNet3(_ConvNet):
    """Three blocks with instance norm, the field's network for 32-pixel images."""

    name, depth, norm = "convnet3", 3, "instance"
    summary = "ConvNet-D of dataset condensation, 3 blocks of 128 channels, instance norm"


class ConvNet4(_ConvNet):
    """Four blocks with instance norm, the field's network for 64-pixel images."""

    name, depth, norm = "convnet4", 4, "instance"
    summary = "ConvNet-D of dataset condensation, 4 blocks of 128 channels, instance norm"


class ConvNet3BN(_ConvNet):
    """Three blocks with batch norm."""

    name, depth, norm = "convnet3-bn", 3, "batch"
    summary = "ConvNet-D of dataset condensation, 3 blocks of 128 channels, batch norm"


class ConvNet4BN(_ConvNet):
    """Four blocks with batch norm."""

    name, depth, norm = "convnet4-bn", 4, "batch"
    summary = "ConvNet-D of dataset condensation, 4 blocks of 128 channels, batch norm"


def require_side(name: str, image_shape: tuple[int, int, int], at_least: int) -> None:
    """Raise unless both sides of the images reach ``at_least`` pixels.

    Args:
        name: Architecture named in the message.
        image_shape: (C, H, W) of the input.
        at_least: Smallest side the depth of the architecture can take.

    Raises:
        ConfigError: If the images are smaller.
    """
    _, height, width = image_shape
    if min(height, width) < at_least:
        raise ConfigError(
            f"The images are too small for the network {name}.",
            seen=f"images of {height}x{width} pixels; {name} halves them until less than one pixel is left "
            f"and needs at least {at_least}x{at_least}",
            do=f"Choose a shallower network (small-resnet takes 4x4), or ask for larger images with "
            f"--data.image-size {at_least}.",
        )
