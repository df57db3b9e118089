"""Transforms of torch.func beside a recorded loss: what comes out of them is refused where x went in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, linearize, vmap
from torch.nn import functional as F

from guard_plugins.curvature import CurvatureHook
from guard_plugins.errors import HookError

GENERATOR = torch.Generator().manual_seed(3)
BATCHES = [
    (torch.randn(6, 16, generator=GENERATOR, dtype=torch.float64), torch.randint(0, 4, (6,), generator=GENERATOR))
    for _ in range(3)
]
H = 0.5
Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]


def fresh() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 4)).double()


def trained(loss: Loss, hook: CurvatureHook) -> Tensor:
    net = fresh()
    optimiser = torch.optim.SGD(net.parameters(), 0.05)
    with hook:
        for x, y in BATCHES:
            optimiser.zero_grad()
            loss(net, x, y).backward()
            optimiser.step()
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def twin(loss: Loss, batches: list[tuple[Tensor, Tensor]] = BATCHES) -> Tensor:
    """Return the weights that the objective, written by hand, trains."""
    net = fresh()
    optimiser = torch.optim.SGD(net.parameters(), 0.05)
    for x, y in batches:
        optimiser.zero_grad()
        x = x.clone().requires_grad_()
        clean = loss(net, x, y)
        (slope,) = torch.autograd.grad(clean, x, retain_graph=True)
        moved = loss(net, x + H * slope / slope.norm(dim=1, keepdim=True), y)
        (clean + (moved - clean).abs()).backward()
        optimiser.step()
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def sample_loss(net: nn.Module, weights: dict[str, Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x, y: F.cross_entropy(functional_call(net, weights, (x[None],)), y[None])


def plain(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(net(x), y)


def per_sample(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    slopes = vmap(grad(sample_loss(net, dict(net.named_parameters()))))(x, y)
    return plain(net, x, y) + 0.1 * slopes.pow(2).sum(1).mean()


def scalar_grad(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    weights = dict(net.named_parameters())
    slope = grad(lambda a: F.cross_entropy(functional_call(net, weights, (a,)), y))(x)
    doubled = slope * 2
    return plain(net, x, y) + doubled.square().sum()


def forward_mode(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    weights = dict(net.named_parameters())
    _, slope = jvp(lambda a: functional_call(net, weights, (a,)), (x,), (torch.ones_like(x),))
    return plain(net, x, y) + 0.1 * slope.pow(2).mean()


def linear_route(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    first: Any = net[0]  # type: ignore[index]
    return plain(net, x, y) + vmap(lambda a: (first.weight @ a).sum())(x).pow(2).mean()


def of_a_scaled_batch(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    first: Any = net[0]  # type: ignore[index]
    return plain(net, x, y) + vmap(lambda a: (first.weight @ a).sum())(x * 0.5).pow(2).mean()


def ensemble(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    stacked = {name: torch.stack([p, p * 0.5]) for name, p in net.named_parameters()}
    members = vmap(lambda weights: functional_call(net, weights, (x,)))(stacked)
    return plain(net, x, y) + 0.1 * members.pow(2).mean()


def norms(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    weight = net[0].weight.detach()  # type: ignore[index]
    factors = vmap(lambda a: weight @ a, out_dims=1)(x).norm(dim=0)
    return (F.cross_entropy(net(x), y, reduction="none") * factors).mean()


REFUSED = [per_sample, scalar_grad, forward_mode, linear_route, of_a_scaled_batch, ensemble, norms]


@pytest.mark.parametrize("loss", REFUSED, ids=lambda loss: loss.__name__)
@pytest.mark.parametrize("ways", [{}, {"weight": 2.0}, {"penalty": "gradient"}])
def test_a_transform_of_x_in_the_loss_is_refused(loss: Loss, ways: dict[str, Any]) -> None:
    with pytest.raises(HookError, match=r"second route|torch\.func") as caught:
        trained(loss, CurvatureHook(h=H, **ways))
    assert "no_grad" in caught.value.do or "hook.loss" in caught.value.do


def test_the_refusal_says_what_to_write() -> None:
    with pytest.raises(HookError, match=r"through a transform of torch\.func") as caught:
        trained(per_sample, CurvatureHook(h=H))
    assert "compute this part without torch.func" in caught.value.do


def logged(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    slopes = vmap(grad(sample_loss(net, dict(net.named_parameters()))))(x, y)
    assert slopes.norm() > 0
    return plain(net, x, y)


def logged_weights(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    weights = {name: p.detach() for name, p in net.named_parameters()}
    found = vmap(
        grad(lambda w, a, b: F.cross_entropy(functional_call(net, w, (a[None],)), b[None])), in_dims=(None, 0, 0)
    )(weights, x, y)
    return plain(net, x, y) + 0 * sum(slope.norm() for slope in found.values()).detach()


def weight_penalty(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return plain(net, x, y) + 0.01 * vmap(lambda row: row.pow(2).sum())(net[0].weight).sum()  # type: ignore[index]


def logged_beside(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return logged(net, x, y) + 0.01 * vmap(lambda row: row.pow(2).sum())(net[0].weight).sum()  # type: ignore[index]


def smoothed(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    x, targets = vmap(lambda a: a + 0.1)(x), vmap(lambda row: 0.9 * row + 0.025)(F.one_hot(y, 4).double())
    return F.cross_entropy(net(x), targets)


def smoothed_by_hand(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(net(x + 0.1), 0.9 * F.one_hot(y, 4).double() + 0.025)


def mixed(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    mix = vmap(lambda a, b, share: a.lerp(b, share), in_dims=(0, 0, None))
    share, targets = torch.tensor(0.3, dtype=torch.float64), F.one_hot(y, 4).double()
    return F.cross_entropy(net(mix(x, x.flip(0), share)), mix(targets, targets.flip(0), share))


def mixed_by_hand(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Return the loss where x is what the model is given: the twin moves the mixed batch, as the hook does."""
    targets = F.one_hot(y, 4).double()
    return F.cross_entropy(net(x), targets.lerp(targets.flip(0), torch.tensor(0.3, dtype=torch.float64)))


def made_before(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return plain(net, vmap(lambda a: a + 0.1)(x), y)


def fixed_part(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        target = vmap(lambda a: a[:4] * 2)(x)
    return plain(net, x, y) + 0.1 * F.mse_loss(net(x), target)


def fixed_by_hand(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    data = next(images for images, labels in BATCHES if labels is y)
    return plain(net, x, y) + 0.1 * F.mse_loss(net(x), data[:, :4] * 2)


@pytest.mark.parametrize(
    ("loss", "by_hand"),
    [
        (logged, plain), (logged_weights, plain), (weight_penalty, weight_penalty), (made_before, made_before),
        (fixed_part, fixed_by_hand), (logged_beside, weight_penalty), (smoothed, smoothed_by_hand),
    ],
    ids=lambda loss: loss.__name__,
)  # fmt: skip
def test_transforms_that_are_no_route_of_x_are_none_of_the_hooks_business(loss: Loss, by_hand: Loss) -> None:
    assert torch.allclose(trained(loss, CurvatureHook(h=H)), twin(by_hand), atol=1e-12)
    assert not torch.allclose(twin(plain), twin(weight_penalty), atol=1e-6)  # the comparison can fail


def test_a_batch_that_a_transform_has_mixed_is_x() -> None:
    found = trained(mixed, CurvatureHook(h=H))
    batches = [(x.lerp(x.flip(0), torch.tensor(0.3, dtype=torch.float64)), y) for x, y in BATCHES]
    assert torch.allclose(found, twin(mixed_by_hand, batches), atol=1e-12)


def test_what_is_logged_costs_the_same_every_time() -> None:
    """The notes of transforms do not pile up where no backward call comes between them."""
    net, hook = fresh(), CurvatureHook(h=H)
    x, y = BATCHES[0]
    with hook:
        for _ in range(200):
            logged(net, x, y)
        plain(net, x, y).backward()
        ledger = hook._session.ledger
        assert len(ledger.in_gradients) < 50
    hook.summary()


def test_a_linearised_model_is_logged_beside_the_loop() -> None:
    net, hook = fresh(), CurvatureHook(h=H)
    x, y = BATCHES[0]
    with hook:
        _, push = linearize(net, x)
        assert push(torch.ones_like(x)).shape == (6, 4)
        plain(net, x, y).backward()
    assert hook.summary().backwards == 1
