from __future__ import annotations

import pytest
import torch
from torch import nn

from guard_plugins.data.base import Data
from guard_plugins.data.splits import TensorSplit
from guard_plugins.errors import ConfigError
from guard_plugins.networks.catalogue import ConvNet3, SmallResNetNetwork
from guard_plugins.networks.normalised import Normalised, build_normalised

MEAN, STD = (0.4, 0.5, 0.6), (0.1, 0.2, 0.4)


def data(side: int) -> Data:
    split = TensorSplit(torch.zeros(4, 3, side, side, dtype=torch.uint8), torch.arange(4))
    return Data("toy", split, split, tuple("abcd"), MEAN, STD, (3, side, side))


def test_forward_is_the_network_on_normalised_pixels():
    model = Normalised(nn.Flatten(), mean=MEAN, std=STD)
    images = torch.rand(2, 3, 4, 4)
    expected = torch.stack([(images[:, c] - MEAN[c]) / STD[c] for c in range(3)], dim=1).flatten(1)
    assert torch.allclose(model(images), expected)


def test_pixels_inverts_normalise():
    model = Normalised(nn.Identity(), mean=MEAN, std=STD)
    images = torch.rand(2, 3, 4, 4)
    assert torch.allclose(model.pixels(model.normalise(images)), images, atol=1e-6)


def test_constants_are_buffers_that_travel_with_the_weights():
    model = Normalised(nn.Conv2d(3, 2, 1), mean=MEAN, std=STD)
    other = Normalised(nn.Conv2d(3, 2, 1), mean=(0.0,) * 3, std=(1.0,) * 3)
    other.load_state_dict(model.state_dict())
    images = torch.rand(1, 3, 4, 4)
    assert torch.equal(model(images), other(images))
    assert {name for name, _ in model.named_parameters()} == {"network.weight", "network.bias"}


def test_build_from_data():
    model = build_normalised(SmallResNetNetwork(), data(8), activation="gelu")
    assert model(torch.rand(2, 3, 8, 8)).shape == (2, 4)
    assert any(isinstance(module, nn.GELU) for module in model.network.modules())
    assert torch.equal(model.mean.flatten(), torch.tensor(MEAN))
    assert torch.equal(model.std.flatten(), torch.tensor(STD))


def test_build_refuses_images_too_small():
    with pytest.raises(ConfigError, match="too small for the network convnet3"):
        build_normalised(ConvNet3(), data(4))
