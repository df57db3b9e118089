from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from guard_plugins.attacks.cw import CW
from guard_plugins.errors import ConfigError
from tests.attacks.oracle import Linear, inner_images


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("classes", [2, 5])
def test_distances_on_a_linear_model_are_exact(classes: int) -> None:
    model, images = Linear(classes=classes, shape=(1, 6, 6), seed=1), inner_images(60, (1, 6, 6), seed=2)
    labels = model(images).argmax(1)
    found, distance = CW().search(model, images, labels, enough=0.0)
    exact = model.distances(images, labels, norm="L2")
    assert (model(found).argmax(1) != labels).all()
    torch.testing.assert_close((found - images).flatten(1).norm(dim=1), distance, atol=1e-6, rtol=1e-5)
    assert (distance >= exact * 0.999).all()
    excess = distance / exact.clamp_min(1e-3)
    assert float(excess.median()) < 1.02
    assert float(excess.quantile(0.9)) < 1.1


def test_negative_logits_are_nothing_special(linear: Linear, linear_data: tuple[Tensor, Tensor]) -> None:
    images, labels = linear_data
    _, before = CW(steps=40, searches=5).search(linear, images, labels, enough=0.0)
    with torch.no_grad():
        linear.layer.bias -= 1000.0
    _, after = CW(steps=40, searches=5).search(linear, images, labels, enough=0.0)
    assert torch.isfinite(after).all()
    torch.testing.assert_close(after, before, rtol=0.05, atol=1e-3)


def test_pixels_at_exactly_0_and_1_can_move() -> None:
    class Sum(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            total = images.flatten(1).mean(1)
            return torch.stack([total - 0.1, 0.9 - total], dim=1)  # class 0 above 0.5

    black, white = torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4)
    images, labels = torch.cat([black, white]), torch.tensor([1, 0])
    found, distance = CW().search(Sum(), images, labels, enough=0.0)
    assert (Sum()(found).argmax(1) != labels).all()
    torch.testing.assert_close(distance, torch.full((2,), 2.0), rtol=0.01, atol=0)
    assert found.min() >= 0
    assert found.max() <= 1


def test_returns_only_what_lies_within_eps(linear: Linear, linear_data: tuple[Tensor, Tensor]) -> None:
    images, labels = linear_data
    exact = linear.distances(images, labels, norm="L2")
    eps = float(exact.median())
    adversarial = CW().perturb(linear, images, labels, eps=eps, generator=generator())
    broken = linear(adversarial).argmax(1) != labels
    length = (adversarial - images).flatten(1).norm(dim=1)
    assert float(length.max()) <= eps + 1e-6
    assert (length[~broken] == 0).all()
    assert broken[exact < 0.9 * eps].all()
    assert not broken[exact > eps].any()


def test_samples_within_eps_are_left_alone_from_then_on(linear: Linear, linear_data: tuple[Tensor, Tensor]) -> None:
    asked: list[int] = []
    handle = linear.register_forward_hook(lambda module, args, out: asked.append(len(args[0])))
    CW(searches=2).perturb(linear, *linear_data, eps=100.0, generator=generator())
    quick = sum(asked)
    asked.clear()
    CW(searches=2).search(linear, *linear_data, enough=0.0)
    handle.remove()
    assert quick < 0.5 * sum(asked)


def test_misclassified_images_have_distance_zero(linear: Linear, linear_data: tuple[Tensor, Tensor]) -> None:
    images, labels = linear_data
    found, distance = CW(steps=5, searches=1).search(linear, images, (labels + 1) % 4, enough=0.0)
    assert (distance == 0).all()
    assert torch.equal(found, images)


def test_label_and_settings() -> None:
    assert CW().label == "cw-l2-9x100"
    with pytest.raises(ConfigError, match="a positive c"):
        CW(initial_c=0.0)
