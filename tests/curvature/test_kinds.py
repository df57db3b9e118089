"""Kinds of published loops beyond those of ``loops.py``: equal to their twins, or refused with the line to write."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import prune
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from guard_plugins.curvature import CurvatureHook
from guard_plugins.errors import HookError
from tests.curvature.gaps import H, by_hand, distance, filled, gap, under_hook

X = torch.randn(6, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
NOISE = torch.randn(6, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
Y = torch.tensor([0, 1, 2, 3, 1, 0])
CE = F.cross_entropy


def seeded(*layers: nn.Module) -> nn.Sequential:
    """Return a network with the same weights at each call."""
    torch.manual_seed(1)
    net = nn.Sequential(*layers).double()
    for p in net.parameters():
        nn.init.normal_(p, std=0.3)
    return net


def mlp() -> nn.Sequential:
    return seeded(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 16))


MADE: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "denoising": (lambda x: x + 0.1 * torch.randn_like(x), lambda x: x),
    "super-resolution": (lambda x: F.avg_pool1d(x[:, None], 2)[:, 0].repeat(1, 2), lambda x: x),
    "flow matching": (lambda x: 0.3 * x + 0.7 * NOISE, lambda x: x - NOISE),
    "diffusion": (lambda x: 0.3 * x + 0.7 * NOISE, lambda x: NOISE),
    "the next half": (lambda x: x[:, :8].repeat(1, 2), lambda x: x.flip(1)),
}


@pytest.mark.parametrize("name", MADE)
def test_a_target_that_x_was_made_from_stays(name: str) -> None:
    net, (made, target) = mlp(), MADE[name]

    def loop(x: Tensor) -> Tensor:
        torch.manual_seed(3)
        entered = made(x)
        return F.mse_loss(net(entered), target(x))

    ours = under_hook(net, lambda _: loop(X.clone()), CurvatureHook(h=H))
    torch.manual_seed(3)
    expected = by_hand(lambda x: F.mse_loss(net(x), target(X)), [made(X)], list(net.parameters()))
    assert distance(ours, expected) <= 1e-9


def test_two_views_of_a_batch_are_two_inputs_where_the_loop_says_so() -> None:
    net = mlp()

    def loss(a: Tensor, b: Tensor) -> Tensor:
        return CE(F.normalize(net(a), dim=1) @ F.normalize(net(b), dim=1).T, torch.arange(6))

    def views(x: Tensor) -> tuple[Tensor, Tensor]:
        return x + 0.1 * NOISE, x - 0.1 * NOISE

    with pytest.raises(HookError, match="second route") as error:
        under_hook(net, lambda _: loss(*views(X.clone())), CurvatureHook(h=H))
    assert "a, b = hook.watch((a, b))" in str(error.value)
    apart = under_hook(net, lambda hook: loss(*hook.watch(views(X.clone()))), CurvatureHook(h=H))
    assert distance(apart, by_hand(loss, views(X), list(net.parameters()))) <= 1e-9
    as_one = under_hook(net, lambda hook: loss(*views(hook.watch(X.clone()))), CurvatureHook(h=H))
    assert distance(as_one, by_hand(lambda x: loss(*views(x)), [X], list(net.parameters()))) <= 1e-9


class Reads(nn.Module):
    """Multiplies by a factor it finds somewhere."""

    def __init__(self, factor: Callable[[Reads], Tensor]) -> None:
        super().__init__()
        self.inner, self.table, self.rows, self.condition = mlp(), {}, [], None
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) * self.factor(self)


BOX: dict[str, Tensor] = {}
PLACES: dict[str, tuple[Callable[[Reads], Tensor], Callable[[Reads, Tensor], None]]] = {
    "a dict": (lambda m: m.table["c"], lambda m, c: m.table.update(c=c)),
    "a list": (lambda m: m.rows[-1], lambda m, c: m.rows.append(c)),
    "a closure": (lambda m: BOX["c"], lambda m, c: BOX.update(c=c)),
    "an attribute": (lambda m: m.condition, lambda m, c: setattr(m, "condition", c)),
}
VALUES: dict[str, Callable[[Tensor], Tensor]] = {
    "x": lambda x: x,
    "computed from x": lambda x: x.mean(1, keepdim=True),
    "made as x was": lambda x: x.flip(1),
}


@pytest.mark.parametrize("watch", [False, True])
@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("place", PLACES)
def test_x_that_a_module_reads_from_elsewhere(place: str, value: str, watch: bool) -> None:
    read, put = PLACES[place]
    net = Reads(read)

    def loop(x: Tensor) -> Tensor:
        put(net, VALUES[value](x))
        return net(x / 2).square().mean()

    with pytest.raises(HookError) as error:
        gap(net, loop, X.clone(), watch=watch)
    assert "watch(x)" in str(error.value) or "as an argument" in str(error.value)
    BOX.clear()


@pytest.mark.parametrize("place", PLACES)
def test_what_is_detached_may_be_read_from_anywhere(place: str) -> None:
    read, put = PLACES[place]
    net = Reads(read)

    def loop(x: Tensor) -> Tensor:
        put(net, x.detach().mean(1, keepdim=True))
        return net(x).square().mean()

    ours = under_hook(net, lambda _: loop(X.clone()), CurvatureHook(h=H, weight=2.0))
    c = X.mean(1, keepdim=True)
    expected = by_hand(lambda x: (net.inner(x) * c).square().mean(), [X], list(net.parameters()), weight=2.0)
    assert distance(ours, expected) <= 1e-9
    BOX.clear()


def test_a_loss_kept_on_the_model_is_no_condition() -> None:
    net, losses = mlp(), []
    with CurvatureHook(h=H):
        for _ in range(3):
            net.last = F.mse_loss(net(X), NOISE)
            net.last.backward()
            losses.append(float(net.last))
    assert len(losses) == 3


def test_a_pruned_network_made_inside_the_context() -> None:
    def pruned(_: object = None) -> nn.Module:
        net = mlp()
        prune.l1_unstructured(net[0], "weight", 0.5)
        return net

    with CurvatureHook(h=H):
        net = pruned()
        F.mse_loss(net(X), NOISE).backward()
    twin = pruned()
    weights = list(twin.parameters())
    expected = by_hand(lambda x: F.mse_loss(twin(x), NOISE), [X], weights)
    assert distance([p.grad for p in net.parameters()], expected) <= 1e-9


CHECKPOINTED: dict[str, Callable[[nn.Sequential, Tensor], Tensor]] = {
    "a module": lambda net, x: net[2](checkpoint(net[:2], x, use_reentrant=False)),
    "a function": lambda net, x: net[2](checkpoint(lambda x: net[0](x).tanh(), x, use_reentrant=False)),
    "parts": lambda net, x: checkpoint_sequential(net, 2, x, use_reentrant=False),
}


@pytest.mark.parametrize("weight", [1.0, 2.0])
@pytest.mark.parametrize("name", CHECKPOINTED)
def test_checkpoints_of_the_loop(name: str, weight: float) -> None:
    net = mlp()
    hook = CurvatureHook(h=H, weight=weight)
    assert gap(net, lambda x: F.mse_loss(CHECKPOINTED[name](net, x), NOISE), X.clone(), hook=hook) <= 1e-9


def test_weights_without_a_module_have_a_pace_of_their_own() -> None:
    """Two functional models step in turn under ``every=2``: each is regularised at its own steps 1 and 3."""
    weights = [nn.Parameter(X[:4].T.clone()), nn.Parameter(NOISE[:4].T.clone())]
    hook, regularised = CurvatureHook(h=H, every=2), []
    with hook:
        for _ in range(4):
            for w in weights:
                optimizer = torch.optim.SGD([w], 0.1)
                optimizer.zero_grad()
                before = hook.summary().backwards
                CE(hook.watch(X.clone()) @ w, Y).backward()
                optimizer.step()
                regularised.append(hook.summary().backwards - before)
    assert regularised == [1, 1, 0, 0, 1, 1, 0, 0]


@pytest.mark.parametrize("options", [{"every": 2}, {"ramp": 2}])
def test_models_that_are_given_other_data_have_a_pace_of_their_own(options: dict) -> None:
    """x is watched, and meets a loss with the answer of a model to something else: two train in turn."""
    nets, hook = [seeded(nn.Linear(16, 16)), seeded(nn.Linear(16, 16), nn.Tanh())], CurvatureHook(h=H, **options)
    optimizers = [torch.optim.SGD(net.parameters(), 0.1) for net in nets]
    with hook:
        for step in range(4):
            h = H * min(1, (step + 1) / 2) if "ramp" in options else H * (step % 2 == 0)
            for net, optimizer in zip(nets, optimizers, strict=True):
                weights = list(net.parameters())
                with hook.paused():
                    expected = by_hand(lambda x, n=net: ((x.tanh() - n(NOISE)) ** 4).mean(), [X], weights, h=h)
                optimizer.zero_grad()
                ((hook.watch(X.clone()).tanh() - net(NOISE)) ** 4).mean().backward()
                assert distance([p.grad for p in weights], expected) <= 1e-9
                optimizer.step()


class Weighted(nn.CrossEntropyLoss):
    """A criterion with a buffer, which no optimiser steps."""

    def __init__(self) -> None:
        super().__init__(weight=torch.ones(16, dtype=torch.float64))


FIRST: dict[str, Callable[[nn.Sequential, nn.Parameter, Tensor], Tensor]] = {
    "a criterion with a buffer": lambda net, w, x: Weighted()(x @ w, Y),
    "a frozen module": lambda net, w, x: CE(net[2](net[0](x).tanh()), Y),
    "a frozen module and weights": lambda net, w, x: CE(net[0](x) @ w, Y),
}


@pytest.mark.parametrize("options", [{"every": 2}, {"ramp": 2}])
@pytest.mark.parametrize("name", FIRST)
def test_what_no_optimiser_steps_sets_no_pace(name: str, options: dict) -> None:
    net, w = mlp(), nn.Parameter(NOISE.T @ NOISE / 16)
    net[0].requires_grad_(False)
    optimizer, hook = torch.optim.SGD([*net[2].parameters(), w], 0.1), CurvatureHook(h=H, **options)
    for step in range(4):
        twin_net, twin_w = copy.deepcopy(net), nn.Parameter(w.detach().clone())
        optimizer.zero_grad()
        with hook:
            FIRST[name](net, w, hook.watch(X.clone())).backward()
            ours = filled([p.grad for p in (*net.parameters(), w)], [*net.parameters(), w])
            optimizer.step()
        weights = [*twin_net[2].parameters(), twin_w]
        h = H * min(1, (step + 1) / 2) if "ramp" in options else H * (step % 2 == 0)
        expected = by_hand(lambda x, n=twin_net, v=twin_w: FIRST[name](n, v, x), [X], weights, h=h)
        assert distance(ours[2:], expected) <= 1e-9


def test_the_argument_proposed_is_one() -> None:
    """What ``input=`` takes: no element of a list, no mask, and of most dimensions."""

    class Detector(nn.Module):
        def forward(self, mask: Tensor, images: list[Tensor], boxes: list[Tensor]) -> Tensor:
            raise AssertionError("not reached")

    net = Detector()
    net.weight = nn.Parameter(torch.ones(1))
    image = torch.randn(3, 4, 4)
    with pytest.raises(HookError, match="several float inputs") as error, CurvatureHook(h=H):
        net(torch.ones(1, 3, 4, 4), [image, image + 1], [torch.rand(2, 4)])
    assert "CurvatureHook(input='images')" in str(error.value)
