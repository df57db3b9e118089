"""``norm_stats="running"`` reproduces GUARD's two published regularisers on a plain loop."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from guard_plugins.curvature import CurvatureHook
from tests.curvature.loops import LOOPS
from tests.curvature.worlds import World, as_written, assert_same, world

H = 0.7


def _world() -> World:
    w = world(dropout=0.2)
    w.net.double()
    w.data = [(x.double(), y) for x, y in w.data]
    return w


def published_step(net: nn.Module, x: Tensor, y: Tensor, *, form: str, weight: float, offset: float) -> Tensor:
    """One objective as the published scripts compute it, their four forward passes included.

    Args:
        net: The network, in training mode.
        x: Images.
        y: Classes.
        form: ``difference`` of losses, or ``gradient`` difference averaged over samples.
        weight: β or λ.
        offset: What they add to g and to its norm (1e-7).
    """
    clean = F.cross_entropy(net(x), y)
    net.eval()
    x = x.clone().requires_grad_()
    F.cross_entropy(net(x), y).backward()
    g = x.grad.detach() + offset
    z = H * g / (x.grad.detach().flatten(1).norm(dim=1).view(-1, 1, 1, 1) + offset)
    net.zero_grad()
    x.grad = None
    difference = F.cross_entropy(net(x + z), y) - F.cross_entropy(net(x), y)
    if form == "difference":
        term = difference.abs()
    else:
        (d,) = torch.autograd.grad(difference, x, create_graph=True)
        term = d.flatten(1).norm(dim=1).mean()
    net.train()
    return clean + weight * term


@pytest.mark.parametrize("form", ["difference", "gradient"])
def test_published_forms(form: str) -> None:
    """λ of the published gradient form multiplies a mean over the batch, ours a sum: λ = B · weight."""
    batch, weight = 8, 0.5
    ours, theirs, rounded = _world(), _world(), _world()
    start = copy.deepcopy(ours.net.state_dict())
    penalty = "loss" if form == "difference" else "gradient"
    hook = CurvatureHook(h=H, weight=weight, penalty=penalty, norm_stats="running")
    torch.manual_seed(0)
    with hook:
        LOOPS["functional"](ours, as_written)
    for w, offset in ((theirs, 0.0), (rounded, 1e-7)):
        torch.manual_seed(0)
        opt = w.optimizer()
        factor = weight if form == "difference" else weight * batch
        for x, y in w.data:
            loss = published_step(w.net, x, y, form=form, weight=factor, offset=offset)
            opt.zero_grad()
            loss.backward()
            opt.step()
    assert_same(ours.net, theirs.net, start, tolerance=1e-9)
    # with the offset of 1e-7 the scripts add to g, which turns z a little
    assert_same(ours.net, rounded.net, start, tolerance=1e-4)
    assert hook.summary().regularised_steps == 4


def test_flags_of_frozen_layers_survive() -> None:
    w = _world()
    w.net[1].eval()
    with CurvatureHook(h=H, norm_stats="running"):
        LOOPS["functional"](w, as_written)
    assert [m.training for m in w.net] == [True, False] + [True] * 7


def test_explicit_form_agrees() -> None:
    ours, recorded = _world(), _world()
    start = copy.deepcopy(ours.net.state_dict())
    options = {"h": H, "weight": 0.5, "norm_stats": "running"}
    torch.manual_seed(0)
    with CurvatureHook(**options):
        LOOPS["functional"](recorded, as_written)
    torch.manual_seed(0)
    hook, opt = CurvatureHook(**options), ours.optimizer()
    for x, y in ours.data:
        opt.zero_grad()
        hook.loss(ours.net, x, lambda out, y=y: F.cross_entropy(out, y)).backward()
        opt.step()
    assert_same(ours.net, recorded.net, start, tolerance=1e-9)
