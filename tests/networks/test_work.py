"""Operations of a forward pass, counted by hand and by PyTorch."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import resnet18

from guard_plugins.networks.base import NetworkRequest
from guard_plugins.networks.small_resnet import SmallResNet
from guard_plugins.networks.work import operations


def test_a_layer_by_hand() -> None:
    net = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1, stride=2), nn.Flatten(), nn.Linear(5 * 4 * 4, 7))
    assert operations(net, (3, 8, 8)) == 2 * 3 * 9 * 5 * 16 + 2 * 80 * 7


@pytest.mark.parametrize("side", [8, 32])
def test_networks_as_pytorch_counts_them(side: int) -> None:
    request = NetworkRequest(image_shape=(3, side, side), classes=10)
    for net in (SmallResNet(request), resnet18(num_classes=10)):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            net.eval()(torch.zeros(1, 3, side, side))
        assert operations(net, (3, side, side)) == counter.get_total_flops()
        assert not any(part._forward_hooks for part in net.modules())
