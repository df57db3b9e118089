"""A linear model, whose distances to the decision boundary are known, and a small trained network."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.attacks.oracle import Linear, inner_images


@pytest.fixture
def linear() -> Linear:
    return Linear(classes=4, shape=(1, 4, 4), seed=0)


@pytest.fixture
def linear_data(linear: Linear) -> tuple[torch.Tensor, torch.Tensor]:
    images = inner_images(60, (1, 4, 4), seed=1)
    return images, linear(images).argmax(1)


@pytest.fixture(scope="session")
def digits() -> tuple[torch.Tensor, torch.Tensor]:
    from sklearn.datasets import load_digits

    data = load_digits()
    return torch.tensor(data.images, dtype=torch.float32)[:, None] / 16, torch.tensor(data.target)


@pytest.fixture(scope="session")
def digits_net(digits: tuple[torch.Tensor, torch.Tensor]) -> nn.Module:
    from tests.attacks.oracle import train_digits

    return train_digits(*digits)


@pytest.fixture(scope="session")
def robust_net(digits: tuple[torch.Tensor, torch.Tensor]) -> nn.Module:
    """Trained on steps along the loss's gradient: 95 % clean, about 68 % under PGD-20 at 32/255."""
    from tests.attacks.oracle import train_digits

    return train_digits(*digits, h=1.0, epochs=8)
