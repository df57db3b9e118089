"""The published backbones that guard-plugins does not have, for small images. torch is imported when one is built."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from guard_plugins.errors import ConfigError
from guard_plugins.networks.base import Network, NetworkRequest

if TYPE_CHECKING:
    from torch import nn


class _ConvNet(Network):
    depth: ClassVar[int]
    width: ClassVar[int]

    def build(self, request: NetworkRequest) -> nn.Module:
        """Return a freshly initialised ConvNet with instance norm.

        Raises:
            ConfigError: If a side of the images is below ``2 ** depth`` pixels.
        """
        from guard_edc.layers import conv_net

        if min(request.image_shape[1:]) < 2**self.depth:
            raise ConfigError(
                f"The images are too small for the network {self.name}", seen=f"images {request.image_shape}",
                do="Choose a shallower network.",
            )  # fmt: skip
        return conv_net(request, depth=self.depth, width=self.width)


class ConvNet1(_ConvNet):
    """ConvNetD1 of G-VBSM."""

    name, depth, width = "convnet1", 1, 128
    summary = "ConvNet-D of dataset condensation, 1 block of 128 channels, instance norm"


class ConvNet2(_ConvNet):
    """ConvNetD2 of G-VBSM."""

    name, depth, width = "convnet2", 2, 128
    summary = "ConvNet-D of dataset condensation, 2 blocks of 128 channels, instance norm"


class ConvNet3W32(_ConvNet):
    """ConvNetW32 of G-VBSM."""

    name, depth, width = "convnet3-w32", 3, 32
    summary = "ConvNet-D of dataset condensation, 3 blocks of 32 channels, instance norm"


class WideResNet(Network):
    """WRN-16-2 (Zagoruyko & Komodakis 2016, arXiv 1605.07146)."""

    name = "wrn-16-2"
    summary = "wide residual network of 16 layers, widened twice"

    def build(self, request: NetworkRequest) -> nn.Module:
        """Return a freshly initialised WRN-16-2."""
        from guard_edc.layers import wide_res_net

        return wide_res_net(request, blocks=2, widen=2)


class MobileNetV2(Network):
    """torchvision's MobileNetV2 with a first convolution of stride 1."""

    name = "mobilenetv2"
    summary = "torchvision MobileNetV2, first convolution of stride 1 for small images"

    def build(self, request: NetworkRequest) -> nn.Module:
        """Return a freshly initialised MobileNetV2."""
        from guard_edc.layers import mobile_net

        return mobile_net(request)


class ShuffleNetV2(Network):
    """torchvision's ShuffleNetV2 x0.5 with a first convolution of stride 1 and no pooling after it."""

    name = "shufflenetv2"
    summary = "torchvision ShuffleNetV2 x0.5, first convolution of stride 1 for small images"

    def build(self, request: NetworkRequest) -> nn.Module:
        """Return a freshly initialised ShuffleNetV2."""
        from guard_edc.layers import shuffle_net

        return shuffle_net(request)


NETWORKS: Final[tuple[type[Network], ...]] = (
    ConvNet1, ConvNet2, ConvNet3W32, WideResNet, MobileNetV2, ShuffleNetV2,
)  # fmt: skip
