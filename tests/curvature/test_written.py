"""Writing in place: through views, into plain tensors of the loop, into what a module has as an attribute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from guard_plugins.curvature import CurvatureHook
from guard_plugins.errors import HookError
from tests.curvature.gaps import H, distance, filled, gap

GENERATOR = torch.Generator().manual_seed(8)
X = torch.randn(6, 5, generator=GENERATOR, dtype=torch.float64)
Y = torch.tensor([0, 1, 2, 2, 1, 0])
CE = F.cross_entropy


def net_of(outputs: int = 6) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, outputs)).double()


def zeros(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.float64)


def off_diagonal(c: Tensor) -> Tensor:
    n = len(c)
    return c.flatten()[:-1].view(n - 1, n + 1)[:, 1:].flatten()


def barlow_twins(net: nn.Module, x: Tensor) -> Tensor:
    """As published: the diagonal is written through a view of the matrix that is read afterwards."""
    z = net(x)
    z = (z - z.mean(0)) / z.std(0)
    c = z.T @ z / len(z)
    on = torch.diagonal(c).add_(-0.5).pow_(2).sum()
    return on + 0.05 * off_diagonal(c).pow_(2).sum()


def halves(net: nn.Module, x: Tensor) -> Tensor:
    out = net(x) * 1.0
    left, right = out[:, :3], out[:, 3:]
    left.mul_(right.sigmoid())
    right += 0.1
    left[:, 0].add_(left[:, 1].clone())
    out.view(-1)[3:5] = 0.0
    return CE(left, Y) + out.square().mean() + right.mean()


def base_written(net: nn.Module, x: Tensor) -> Tensor:
    out = net(x) * 1.0
    first = out[0]
    out.mul_(2.0)
    return CE(out, Y) + first.square().sum()


def steps_collected(net: nn.Module, x: Tensor) -> Tensor:
    outs = zeros(3, 6, 6)
    for step in range(3):
        outs[step] = net(x * (step + 1)) if step == 0 else torch.tanh(outs[step - 1]) * 2
    return CE(outs.view(-1, 6), Y.repeat(3))


def class_means(net: nn.Module, x: Tensor) -> Tensor:
    out, sums = net(x), zeros(3, 6)
    sums.index_add_(0, Y, out)
    counts = zeros(3).scatter_add_(0, Y, torch.ones(6, dtype=torch.float64))
    return CE(out, Y) + (out - (sums / counts[:, None])[Y]).square().mean()


def weights_by_confidence(net: nn.Module, x: Tensor) -> Tensor:
    out, weights = net(x), torch.ones(6, dtype=torch.float64)
    chosen = Y > 0
    weights[chosen] = out[chosen].softmax(1).max(1).values
    weights[~chosen] *= 0.5
    return (weights * CE(out, Y, reduction="none")).mean()


def total_from_zero(net: nn.Module, x: Tensor) -> Tensor:
    out, total, more = net(x), zeros(), torch.tensor(0.0, dtype=torch.float64)
    total += CE(out, Y)
    total += out.square().mean()
    more.add_(out.mean())
    return total + more


def row_by_row(net: nn.Module, x: Tensor) -> Tensor:
    losses = zeros(6)
    for place, row in enumerate(net(x)):
        losses[place] = CE(row[None], Y[place : place + 1])
    return losses.mean() + losses[:3].max()


LOSSES = [barlow_twins, halves, base_written, class_means, weights_by_confidence, total_from_zero, row_by_row]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("weight", [1.0, 0.5])
@pytest.mark.parametrize("watch", [False, True])
def test_what_is_written_through_views_and_into_plain_tensors_is_followed(
    loss: Callable[[nn.Module, Tensor], Tensor], weight: float, watch: bool
) -> None:
    net, hook = net_of(), CurvatureHook(h=H, weight=weight)
    assert gap(net, lambda x: loss(net, x), X, watch=watch, hook=hook) <= 1e-9


def test_outputs_collected_step_by_step() -> None:
    net = net_of()
    assert gap(net, lambda x: steps_collected(net, x), X, watch=True) <= 1e-9


def test_a_plain_tensor_is_the_loops_own_after_the_replays() -> None:
    net, kept = net_of(), zeros(6, 6)
    with CurvatureHook(h=H):
        out = net(X.clone())
        kept[:3] = out[:3]
        seen = kept.detach().clone()
        CE(kept, Y).backward()
    assert torch.equal(kept, seen)
    assert torch.equal(kept[:3], out[:3])


def test_a_copy_of_x_that_outputs_are_written_into_is_a_second_route() -> None:
    net = net_of(5)

    def train(x: Tensor) -> None:
        mixed = x.clone()
        mixed[:3] = net(x)[:3]
        mixed.square().mean().backward()

    with pytest.raises(HookError, match="by a second route"):
        CurvatureHook(h=H)(train)(X.clone())


def test_an_older_view_of_a_plain_tensor_is_refused() -> None:
    net = net_of()

    def train() -> None:
        out, buffer = net(X.clone()), zeros(2, 6, 6)
        view = buffer[0]
        buffer[0] = out
        (CE(view, Y) + out.mean()).backward()

    with pytest.raises(HookError, match="in a way the hook cannot follow"):
        CurvatureHook(h=H)(train)()


# --- tensors that a module has as attributes -----------------------------------------------------------------------


class Scaled(nn.Module):
    def __init__(self, *, counts: bool = False) -> None:
        super().__init__()
        self.net, self.counts = net_of(3), counts
        self.scale, self.seen = torch.ones(3, dtype=torch.float64), torch.zeros(1)

    def forward(self, x: Tensor) -> Tensor:
        if self.counts:
            self.seen += 1
        return self.net(x) * self.scale


@pytest.mark.parametrize("way", [{}, {"weight": 0.5}, {"penalty": "gradient"}])
@pytest.mark.parametrize("through_data", [False, True])
def test_an_attribute_written_before_backward_is_refused_at_any_step(way: dict[str, Any], through_data: bool) -> None:
    net, steps = Scaled(), []
    optimiser = torch.optim.SGD(net.parameters(), 0.1)

    def train() -> None:
        for step in range(3):
            optimiser.zero_grad()
            loss = CE(net(X.clone()), Y)
            if step == 1:
                (net.scale.data if through_data else net.scale).mul_(1.5)
            loss.backward()
            optimiser.step()
            steps.append(step)

    with pytest.raises(HookError, match="cannot be computed again as it was") as caught:
        CurvatureHook(h=H, **way)(train)()
    assert "shape (3,)" in str(caught.value)
    assert "written between it and backward" in str(caught.value)
    assert steps == [0]


def test_what_calls_themselves_advance_may_be_advanced_by_the_next_call() -> None:
    net, twin = Scaled(counts=True), Scaled()
    noise = torch.randn(6, 5, generator=GENERATOR, dtype=torch.float64)
    optimiser = torch.optim.SGD(net.parameters(), 0.1)
    with CurvatureHook(h=H) as hook:
        x = hook.watch(X.clone())
        loss = CE(net(x), Y) + CE(net(x + noise), Y)
        with torch.no_grad():
            net(noise)
        loss.backward()
    assert net.seen == 3
    leaf = X.clone().requires_grad_()

    def both(x: Tensor) -> Tensor:
        return CE(twin(x), Y) + CE(twin(x + noise), Y)

    (g,) = torch.autograd.grad(both(leaf), leaf)
    both(X + H * F.normalize(g, dim=1)).backward()
    ours, theirs = ([p.grad for p in m.parameters()] for m in (net, twin))
    assert distance(filled(ours, list(net.parameters())), filled(theirs, list(twin.parameters()))) <= 1e-9
    optimiser.step()


def test_an_attribute_written_after_backward_is_fine() -> None:
    net = Scaled()
    optimiser = torch.optim.SGD(net.parameters(), 0.1)
    with CurvatureHook(h=H):
        for _ in range(3):
            optimiser.zero_grad()
            CE(net(X.clone()), Y).backward()
            net.scale.mul_(0.9)
            optimiser.step()


class Holding(Scaled):
    """Has what the loop or another optimiser writes, and reads none of it."""

    def __init__(self) -> None:
        super().__init__()
        self.queue, self.mean, self.other = torch.zeros(6, 3, dtype=torch.float64), zeros(), [nn.Linear(5, 3).double()]
        self.optimiser = torch.optim.Adam(self.other[0].parameters())

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) * float(len(self.queue) == 6)


@pytest.mark.parametrize("way", [{}, {"weight": 0.5}, {"penalty": "gradient"}])
def test_what_a_module_holds_and_does_not_read_may_be_written_before_backward(way: dict[str, Any]) -> None:
    found = []
    for early in (True, False):
        torch.manual_seed(0)
        net, hook = Holding(), CurvatureHook(h=H, **way)
        optimiser = torch.optim.SGD(net.net.parameters(), 0.1)

        def write(out: Tensor, loss: Tensor, net: Holding = net, hook: CurvatureHook = hook) -> None:
            net.queue[:] = out.detach()
            net.mean.mul_(0.9).add_(loss.detach(), alpha=0.1)
            with hook.paused():
                net.optimiser.zero_grad()
                net.other[0](X).square().mean().backward()
                net.optimiser.step()

        with hook:
            for _ in range(3):
                optimiser.zero_grad()
                out = net(X.clone())
                loss = CE(out, Y) + (out @ net.queue.clone().T).square().mean()
                if early:
                    write(out, loss)
                loss.backward()
                if not early:
                    write(out, loss)
                optimiser.step()
        found.append([*net.net.parameters(), *net.other[0].parameters(), net.queue, net.mean])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("read", [lambda t: t.item(), lambda t: t.data * 1, lambda t: t.detach() + 0, float])
def test_every_way_of_reading_a_written_attribute_is_refused(read: Callable[[Tensor], Any]) -> None:
    class Net(Scaled):
        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                factor = read(self.seen)
            return self.net(x) * (1 + factor)

    net = Net()
    with CurvatureHook(h=H):
        loss = CE(net(X.clone()), Y)
        net.seen += 1
        with pytest.raises(HookError, match="written between it and backward"):
            loss.backward()


# --- tensors without a graph that outlive their step ---------------------------------------------------------------


def log_of_rows(log: Tensor, step: int, right: Tensor) -> Tensor:
    factor = 1 + log[step].clone()
    log[step + 1].add_(right)
    return factor


def whole_log(log: Tensor, step: int, right: Tensor) -> Tensor:
    factor = 1 + log.sum()
    log[step + 1] = right
    return factor


@pytest.mark.parametrize("use", [log_of_rows, whole_log])
def test_what_an_earlier_step_left_in_a_log_is_data(use: Callable[[Tensor, int, Tensor], Tensor]) -> None:
    found = []
    for detached in (False, True):
        net, log = net_of(3), torch.zeros(5, dtype=torch.float64)
        optimiser = torch.optim.SGD(net.parameters(), 0.1)
        with CurvatureHook(h=H):
            for step in range(4):
                optimiser.zero_grad()
                out = net(X + step)
                right = (out.argmax(1) == Y).double().mean()
                loss = CE(out, Y) * use(log, step, right.detach() if detached else right)
                loss.backward()
                optimiser.step()
        found.append([*net.parameters(), log])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_an_accuracy_of_the_step_before_is_data_and_one_of_this_x_is_not() -> None:
    net, factor = net_of(3), torch.ones((), dtype=torch.float64)
    with CurvatureHook(h=H):
        for step in range(3):
            x = X + step
            out = net(x)
            right = (out.argmax(1) == Y).double().mean()
            (CE(out, Y) * factor).backward()
            factor = 1 + right
        again = CE(net(x), Y) * factor
        with pytest.raises(HookError, match="second route"):
            again.backward()
