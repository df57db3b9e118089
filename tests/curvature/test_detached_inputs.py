"""Detached features as the input of a second model beside x: fixed where x is watched, asked about elsewhere."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from guard_plugins.curvature import CurvatureHook
from guard_plugins.errors import HookError
from tests.curvature.gaps import H, by_hand, distance, filled

GENERATOR = torch.Generator().manual_seed(2)
X = torch.randn(6, 5, generator=GENERATOR, dtype=torch.float64)
Y = torch.randint(0, 3, (6,), generator=GENERATOR)
CE = F.cross_entropy


class Both(nn.Module):
    """Holds the two models of a loop, which calls them one after the other."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.body = nn.Sequential(nn.Linear(5, 5), nn.Tanh())
        self.head = nn.Linear(5, 3)
        self.frozen = nn.Sequential(nn.Linear(5, 5), nn.Tanh()).requires_grad_(False)
        self.double()


def gradients(net: nn.Module) -> list[Tensor]:
    weights = [p for p in net.parameters() if p.requires_grad]
    return filled([p.grad for p in weights], weights)


def without_gradients(net: Both, x: Tensor) -> Tensor:
    out = net.body(x)
    with torch.no_grad():
        features = F.normalize(out * 2)
    return CE(out, Y) + CE(net.head(features), Y)


def frozen(net: Both, x: Tensor) -> Tensor:
    with torch.no_grad():
        features = net.frozen(x)
    return CE(net.body(x), Y) + CE(net.head(features), Y)


def weighted_by_losses(net: Both, x: Tensor) -> Tensor:
    losses = CE(net.body(x), Y, reduction="none")
    weights = net.head(losses.detach()[:, None].expand(6, 5)).softmax(0)[:, 0]
    return (weights * losses).sum()


def probed(net: Both, x: Tensor) -> Tensor:
    out = net.body(x)
    return out.square().mean() + CE(net.head(out.detach()), Y)


def through_data(net: Both, x: Tensor) -> Tensor:
    out = net.body(x)
    return out.square().mean() + CE(net.head(out.data * 2), Y)


LOSSES = [without_gradients, frozen, weighted_by_losses, probed, through_data]


@pytest.mark.parametrize("loss", LOSSES)
def test_detached_features_beside_x_are_asked_about(loss: Callable[[Both, Tensor], Tensor]) -> None:
    net = Both()
    with pytest.raises(HookError, match="features without a graph beside x") as caught:
        CurvatureHook(h=H)(lambda: loss(net, X.clone()).backward())()
    assert "x = hook.watch(x)" in str(caught.value)
    assert "argument input (6, 5) of Linear" in str(caught.value)
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("loss", LOSSES)
def test_they_are_fixed_where_x_is_watched(loss: Callable[[Both, Tensor], Tensor]) -> None:
    ours, twin, hook = Both(), Both(), CurvatureHook(h=H)
    with hook:
        loss(ours, hook.watch(X.clone())).backward()
    kept: list[Tensor] = []
    head = twin.head.forward

    def held(features: Tensor) -> Tensor:
        kept.append(features.detach().clone())
        return head(kept[0])

    twin.head.forward = held  # type: ignore[method-assign]
    expected = by_hand(lambda x: loss(twin, x), [X], [p for p in twin.parameters() if p.requires_grad])
    assert distance(gradients(ours), expected) <= 1e-9


def test_features_of_a_loss_that_was_differentiated_before_are_asked_about_too() -> None:
    def train() -> None:
        net = Both()
        out = net.body(x := X.clone())
        CE(out, Y).backward()
        (CE(net.frozen.requires_grad_()(x), Y) + CE(net.head(out.detach()), Y)).backward()

    with pytest.raises(HookError, match="features without a graph beside x"):
        CurvatureHook(h=H)(train)()


def test_features_in_a_loss_of_their_own_are_the_x_of_their_model() -> None:
    net, twin = Both(), Both()

    def train() -> None:
        out = net.body(X.clone())
        CE(out, Y).backward()
        CE(net.head(out.detach()), Y).backward()

    CurvatureHook(h=H)(train)()
    features = twin.body(X).detach()
    expected = by_hand(lambda x: CE(twin.body(x), Y), [X], list(twin.body.parameters()))
    expected += by_hand(lambda f: CE(twin.head(f), Y), [features], list(twin.head.parameters()))
    assert distance(gradients(net), expected) <= 1e-9
