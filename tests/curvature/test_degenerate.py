"""Numbers at the edge: gradients that are all zero, batches of one class, terms that are huge or no numbers."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from guard_plugins.curvature import CurvatureHook
from guard_plugins.curvature.objective.options import Penalty


def train(net: nn.Module, x: Tensor, y: Tensor, lr: float = 0.1) -> None:
    sgd = torch.optim.SGD(net.parameters(), lr=lr)
    F.cross_entropy(net(x), y).backward()
    sgd.step()


def blind() -> nn.Linear:
    """Its logits do not depend on the input, but its weights still have gradients."""
    net = nn.Linear(6, 3)
    nn.init.zeros_(net.weight)
    return net


@pytest.mark.parametrize("penalty", ["loss", "gradient"])
def test_where_no_input_matters_z_is_zero_and_the_step_is_the_plain_one(penalty: Penalty) -> None:
    torch.manual_seed(0)
    net, x, y = blind(), torch.rand(5, 6), torch.tensor([0, 1, 2, 1, 0])
    plain = copy.deepcopy(net)
    train(plain, x, y)
    hook = CurvatureHook(h=0.5, weight=3.0, penalty=penalty)
    with hook:
        train(net, x, y)
    for a, b in zip(net.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)
    assert net.weight.abs().sum() > 0
    summary = hook.summary()
    assert (summary.mean_gradient_norm, summary.mean_term, summary.regularised_steps) == (0.0, 0.0, 1)


def test_one_dead_sample_stays_where_it_is_and_the_others_move() -> None:
    torch.manual_seed(1)
    net, x, y = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).double(), torch.rand(4, 6).double(), 1
    with torch.no_grad():
        x[2] = 0
        net[0].bias.fill_(-0.3)
        net[0].weight.copy_(net[0].weight.abs())
    labels = torch.full((4,), y)
    leaf = x.clone().requires_grad_()
    loss = F.cross_entropy(net(leaf), labels)
    (g,) = torch.autograd.grad(loss, [leaf])
    norms = g.norm(dim=1, keepdim=True)
    assert norms[2] == 0
    assert (norms > 0).sum() == 3
    z = torch.where(norms > 0, 0.5 * g / norms.clamp_min(1e-300), torch.zeros_like(g))
    expected = loss + (F.cross_entropy(net(x + z), labels) - loss).abs()
    value = CurvatureHook(h=0.5).loss(net, x, lambda out: F.cross_entropy(out, labels))
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("penalty", ["loss", "gradient"])
def test_a_batch_of_one_class_is_regularised_like_any_other(penalty: Penalty) -> None:
    torch.manual_seed(2)
    net, x, y = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double(), torch.rand(5, 6).double(), 2
    twin, labels = copy.deepcopy(net), torch.full((5,), y)
    with CurvatureHook(h=0.5, penalty=penalty):
        train(net, x, labels)

    leaf = x.clone().requires_grad_()
    loss = F.cross_entropy(twin(leaf), labels)
    (g,) = torch.autograd.grad(loss, [leaf], create_graph=True)
    moved = (x + torch.stack([0.5 * row / row.norm() for row in g.detach()])).requires_grad_()
    there = F.cross_entropy(twin(moved), labels)
    if penalty == "loss":
        term = (there - loss).abs()
    else:
        (displaced,) = torch.autograd.grad(there, [moved], create_graph=True)
        term = torch.stack([(a - b).norm() for a, b in zip(displaced, g, strict=True)]).sum()
    (loss + term).backward()
    with torch.no_grad():
        for p in twin.parameters():
            assert p.grad is not None
            p -= 0.1 * p.grad
    for a, b in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


class Cliff(nn.Module):
    """Finite up to its edge, infinite beyond."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([-torch.exp(self.weight[0] * x.sum(1)), self.weight[1] * x[:, 0]], dim=1)


def test_a_term_that_is_no_number_shows_in_the_record_and_in_the_weights() -> None:
    net, x, y = Cliff(), torch.full((2, 4), 5.0), torch.tensor([0, 0])
    assert math.isfinite(F.cross_entropy(net(x), y).item())
    hook = CurvatureHook(h=40.0)
    with hook:
        train(net, x, y)
    record = hook.last
    assert record is not None
    assert math.isfinite(record.loss)
    assert not math.isfinite(record.term), "where the loop logs the hook's record, it sees it at once"
    assert not any(bool(torch.isfinite(p).all()) for p in net.parameters()), "and its next loss is not finite"


def test_a_huge_term_is_recorded_as_it_is() -> None:
    torch.manual_seed(3)
    net, x, y = nn.Linear(6, 3), torch.rand(5, 6), torch.tensor([0, 1, 2, 1, 0])
    hook = CurvatureHook(h=1e12)
    with hook:
        train(net, x, y, lr=1e-15)
    assert hook.summary().mean_term == pytest.approx(1e12, rel=10)
    assert all(bool(torch.isfinite(p).all()) for p in net.parameters())
