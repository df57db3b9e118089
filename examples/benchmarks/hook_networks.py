"""The networks of the hook benchmark, all for 32×32 colour images and ten classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from torch import nn
from torchvision.models import VisionTransformer

from guard_plugins.networks.base import Network, NetworkRequest
from guard_plugins.networks.catalogue import ConvNet3, ResNet18, SmallResNetNetwork

_REQUEST: Final = NetworkRequest(image_shape=(3, 32, 32), classes=10)


def _vit_tiny() -> nn.Module:
    """Return the ViT-Ti of Touvron et al. 2021 (192 wide, 12 layers, 3 heads) with 4×4 patches."""
    net: nn.Module = VisionTransformer(
        image_size=32, patch_size=4, num_layers=12, num_heads=3, hidden_dim=192, mlp_dim=768, num_classes=10
    )
    return net


def _built(network: type[Network]) -> Callable[[], nn.Module]:
    return lambda: network().build(_REQUEST)


NETWORKS: Final[dict[str, Callable[[], nn.Module]]] = {
    "convnet3": _built(ConvNet3),
    "resnet18": _built(ResNet18),
    "small-resnet": _built(SmallResNetNetwork),
    "vit-tiny": _vit_tiny,
}
"""Builders by the name ``--networks`` takes."""
