"""The rivals' objectives against closed forms on a linear model, where every adversary is known."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from guard_plugins.config import TeacherConfig
from guard_plugins.training import objectives

EPS = 0.05


@pytest.fixture
def linear() -> nn.Module:
    """Two classes on 1x2x2 images: the worst L-inf perturbation is eps * sign(w_other - w_label)."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[1.0, -2.0, 0.5, 3.0], [-1.0, 1.0, 2.0, -0.5]]))
        model[1].bias.copy_(torch.tensor([0.1, -0.2]))
    return model


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(6, 1, 2, 2, generator=generator) * 0.8 + 0.1, torch.tensor([0, 1, 0, 1, 1, 0])


def worst(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    weight = model[1].weight.detach()  # type: ignore[index]
    direction = (weight[1 - labels] - weight[labels]).sign().view_as(images)
    return images + EPS * direction


@pytest.mark.parametrize("name", ["fgsm_rs", "pgd"])
def test_the_adversary_of_a_linear_model_is_the_worst_corner(
    name: str, linear: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    images, labels = batch
    function: Callable[..., Tensor] = getattr(objectives, name)
    settings = {"steps": 10} if name == "pgd" else {}
    expected = F.cross_entropy(linear(worst(linear, images, labels)), labels)
    found = function(linear, images, labels, eps=EPS, **settings)
    if name == "pgd":
        torch.testing.assert_close(found, expected)
    else:  # one step of 1.25 eps from a random start reaches the corner only in the coordinates that start well
        assert F.cross_entropy(linear(images), labels) < found <= expected + 1e-6


def test_the_adversary_stays_in_the_ball_and_in_the_pixels(batch: tuple[Tensor, Tensor]) -> None:
    images, labels = batch
    seen: list[Tensor] = []

    class Spy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x.detach())
            return x.flatten(1)[:, :2] * 50

    edges = images.round()
    objectives.pgd(Spy(), edges, labels, eps=EPS, steps=7)
    assert len(seen) == 8
    for x in seen:
        assert (x - edges).abs().max() <= EPS + 1e-6
        assert 0 <= x.min() <= x.max() <= 1


def test_trades_at_beta_zero_is_plain(linear: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    plain = objectives.plain(linear, *batch)
    assert torch.equal(objectives.trades(linear, *batch, eps=EPS, steps=3, beta=0.0), plain)
    assert objectives.trades(linear, *batch, eps=EPS, steps=3, beta=6.0) > plain


def test_trades_restores_the_mode_and_leaves_running_statistics_to_the_loss(batch: tuple[Tensor, Tensor]) -> None:
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(4, 2))
    objectives.trades(model, *batch, eps=EPS, steps=3, beta=1.0)
    assert model.training
    assert model[0].num_batches_tracked == 2  # the clean and the adversarial forward pass, none of the search


def test_gradient_norm_matches_the_closed_form(linear: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    images, labels = batch
    share = F.softmax(linear(images), 1)
    weight = linear[1].weight  # type: ignore[index]
    gradients = (share - F.one_hot(labels, 2)) @ weight
    expected = objectives.plain(linear, images, labels) + 0.7 * gradients.norm(dim=1).mean()
    torch.testing.assert_close(objectives.gradient_norm(linear, images, labels, weight=0.7), expected)
    doubled = objectives.gradient_norm(linear, images.repeat(2, 1, 1, 1), labels.repeat(2), weight=0.7)
    torch.testing.assert_close(doubled, expected)


@pytest.mark.parametrize("name", ["plain", "fgsm-rs", "pgd", "trades", "gradient-norm"])
def test_every_choice_of_the_option_trains(name: str, linear: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    settings = TeacherConfig(training=name, eps=EPS, attack_steps=2)  # type: ignore[arg-type]
    objectives.objective(settings)(linear, *batch).backward()
    assert linear[1].weight.grad is not None  # type: ignore[index]
    assert linear[1].weight.grad.abs().sum() > 0  # type: ignore[index]


@pytest.mark.parametrize(("given", "used"), [(None, 0.013333 * 3072**0.5), (2.0, 2.0)])
def test_gradient_norm_has_the_hook_s_weight_or_the_one_given(
    given: float | None, used: float, linear: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    found = objectives.objective(TeacherConfig(training="gradient-norm", rival_weight=given))(linear, *batch)
    torch.testing.assert_close(found, objectives.gradient_norm(linear, *batch, weight=used), rtol=1e-4, atol=0)


@pytest.mark.parametrize(("given", "used"), [(None, 6.0), (0.5, 0.5)])
def test_trades_has_its_published_weight_or_the_one_given(
    given: float | None, used: float, linear: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    torch.manual_seed(0)
    found = objectives.objective(TeacherConfig(training="trades", eps=EPS, rival_weight=given))(linear, *batch)
    torch.manual_seed(0)
    assert torch.equal(found, objectives.trades(linear, *batch, eps=EPS, steps=10, beta=used))
