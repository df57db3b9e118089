"""What modules compute from x alone and keep: it has no graph without the hook, and none after a step under it."""

from __future__ import annotations

import copy
import gc
import weakref
from collections import deque
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from guard_plugins.curvature import CurvatureHook
from guard_plugins.errors import HookError
from tests.curvature.gaps import H

GENERATOR = torch.Generator().manual_seed(5)
BATCHES = [
    (torch.randn(6, 5, generator=GENERATOR, dtype=torch.float64), torch.randint(0, 3, (6,), generator=GENERATOR))
    for _ in range(4)
]
CE = F.cross_entropy
WAYS = [{}, {"weight": 0.5}, {"penalty": "gradient"}, {"every": 2}]


class Centred(nn.Module):
    """Subtracts a mean of all batches so far, which it keeps as ``kind`` says."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.net = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).double()
        self.kind, self.mean = kind, torch.zeros(5, dtype=torch.float64)
        self.held: Any = {"list": [self.mean], "dict": {"mean": self.mean}, "deque": deque([self.mean])}.get(kind)

    def forward(self, x: Tensor) -> Tensor:
        mean = self.mean if self.held is None else self.held["mean" if self.kind == "dict" else -1]
        mean = 0.9 * mean + 0.1 * x.mean(0)
        if self.held is None:
            self.mean = mean
        elif isinstance(self.held, dict):
            self.held["mean"] = mean
        else:
            self.held.append(mean)
        return self.net(x - mean)

    def kept(self) -> Tensor:
        if self.held is None:
            return self.mean
        return self.held["mean"] if isinstance(self.held, dict) else self.held[-1]


def twin(kind: str, way: dict[str, Any]) -> Centred:
    """Train on the objective by hand, the mean an argument."""
    net = Centred("attribute")
    optimiser, mean = torch.optim.SGD(net.parameters(), 0.1), net.mean
    for step, (x, y) in enumerate(BATCHES):
        optimiser.zero_grad()

        def loss(x: Tensor, y: Tensor = y, mean: Tensor = mean) -> Tensor:
            return CE(net.net(x - (0.9 * mean + 0.1 * x.mean(0))), y)

        leaf, double = x.clone().requires_grad_(), way.get("penalty") == "gradient"
        here = loss(leaf)
        (g,) = torch.autograd.grad(here, leaf, create_graph=True)
        moved = (x + H * F.normalize(g.detach(), dim=1)).requires_grad_()
        there = loss(moved)
        term = (there - here).abs()
        if double:
            (h,) = torch.autograd.grad(there, moved, create_graph=True)
            term = (h - g).norm(dim=1).sum()
        (here + (way.get("weight", 1.0) * term if step % way.get("every", 1) == 0 else 0)).backward()
        optimiser.step()
        mean = 0.9 * mean + 0.1 * x.mean(0)
    net.mean = mean
    return net


@pytest.mark.parametrize("kind", ["attribute", "list", "dict", "deque"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("watch", [False, True])
def test_the_next_step_does_not_go_back_through_it(kind: str, way: dict[str, Any], watch: bool) -> None:
    net, hook = Centred(kind), CurvatureHook(h=H, **way)
    optimiser = torch.optim.SGD(net.parameters(), 0.1)
    with hook:
        for x, y in BATCHES:
            optimiser.zero_grad()
            CE(net(hook.watch(x) if watch else x), y).backward()
            optimiser.step()
            assert not net.kept().requires_grad
            assert net.kept().numpy().shape == (5,)
            copy.deepcopy(net)
    expected = twin(kind, way)
    for ours, theirs in zip([*net.parameters(), net.kept()], [*expected.parameters(), expected.mean], strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-12)


def test_the_explicit_form_leaves_no_graph_either() -> None:
    net, hook = Centred("attribute"), CurvatureHook(h=H)
    optimiser = torch.optim.SGD(net.parameters(), 0.1)
    for x, y in BATCHES:
        optimiser.zero_grad()
        hook.loss(net, x, lambda out, y=y: CE(out, y)).backward()
        optimiser.step()
        assert not net.mean.requires_grad
    expected = twin("attribute", {})
    for ours, theirs in zip([*net.parameters(), net.mean], [*expected.parameters(), expected.mean], strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-12)


def test_a_log_of_what_was_computed_from_x_does_not_keep_the_batches() -> None:
    class Logs(Centred):
        def forward(self, x: Tensor) -> Tensor:
            self.held.append((x * 2).square().mean())
            return self.net(x)

    net, seen = Logs("list"), []
    optimiser = torch.optim.SGD(net.parameters(), 0.1)
    with CurvatureHook(h=H):
        for x, y in BATCHES:
            batch = x.clone()
            seen.append(weakref.ref(batch))
            optimiser.zero_grad()
            CE(net(batch), y).backward()
            optimiser.step()
            del batch
    gc.collect()
    assert len(net.held) == 5
    assert not any(entry.requires_grad for entry in net.held)
    assert not any(ref() is not None for ref in seen)


def test_what_weights_have_a_part_in_keeps_its_graph() -> None:
    class Features(Centred):
        def forward(self, x: Tensor) -> Tensor:
            self.mean = self.net[0](x)
            return self.net[2](self.mean.tanh())

    net = Features("attribute")
    with CurvatureHook(h=H):
        CE(net(BATCHES[0][0]), BATCHES[0][1]).backward()
    assert net.mean.requires_grad


class Buffered(nn.Module):
    """Keeps the mean of its batch as a buffer, which has a graph only because x requires a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(5, 3).double()
        self.register_buffer("mean", torch.zeros(5, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        self.mean = x.mean(0)
        return self.net(x)


@pytest.mark.parametrize("way", WAYS[:3])
def test_a_loss_of_a_buffer_made_of_x_is_refused(way: dict[str, Any]) -> None:
    net, (x, y) = Buffered(), BATCHES[0]
    with pytest.raises(HookError, match="depends on the model's input in a way the hook cannot follow") as caught:
        CurvatureHook(h=H, **way)(lambda: (CE(net(x), y) * (1 + net.mean.square().sum())).backward())()
    assert "as Buffered.mean" in str(caught.value)
    assert "return it from forward, `return out, self.mean`" in str(caught.value)
    assert net.net.weight.grad is None


def test_such_a_buffer_may_be_logged_and_detached() -> None:
    net, log = Buffered(), []
    optimiser = torch.optim.SGD(net.parameters(), 0.1)
    with CurvatureHook(h=H):
        for x, y in BATCHES:
            optimiser.zero_grad()
            (CE(net(x), y) * (1 + net.mean.detach().square().sum())).backward()
            optimiser.step()
            log += [net.mean.numpy(), float((net.mean * 2).sum()), torch.stack([net.mean, net.mean])]
    assert len(log) == 12
