"""The explicit form: pure, per-sample and squared terms, and what it refuses."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from guard_plugins.curvature import CurvatureHook
from guard_plugins.errors import ConfigError
from tests.curvature.worlds import Twin, small_net, world

H = 0.6


def _setup(**options) -> tuple[CurvatureHook, nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    net = small_net(dropout=0.3).double()
    x, y = torch.randn(8, 1, 6, 6, dtype=torch.float64), torch.randint(0, 4, (8,))
    return CurvatureHook(h=H, **options), net, x, y


def _naive(net: nn.Module, x: Tensor, y: Tensor, term) -> Tensor:
    """Losses here and there under one dropout mask, and the term of them."""
    x = x.clone().requires_grad_()
    state = torch.get_rng_state()
    here = F.cross_entropy(net(x), y, reduction="none")
    (g,) = torch.autograd.grad(here.mean(), x, create_graph=True)
    z = H * g.detach() / g.detach().flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    torch.set_rng_state(state)
    moved = (x.detach() + z).requires_grad_()
    there = F.cross_entropy(net(moved), y, reduction="none")
    return here.mean() + 1.7 * term(here, there, x, moved)


def _gradient_gap(here: Tensor, there: Tensor, x: Tensor, moved: Tensor) -> Tensor:
    (a,) = torch.autograd.grad(here.sum(), x, create_graph=True)
    (b,) = torch.autograd.grad(there.sum(), moved, create_graph=True)
    return (b - a).flatten(1).norm(dim=1)


TERMS = {
    "loss": ({}, lambda a, b, *_: (b.mean() - a.mean()).abs()),
    "loss, squared": ({"squared": True}, lambda a, b, *_: (b.mean() - a.mean()) ** 2),
    "loss, per sample": ({"per_sample": True}, lambda a, b, *_: (b - a).abs().mean()),
    "loss, per sample, squared": ({"per_sample": True, "squared": True}, lambda a, b, *_: ((b - a) ** 2).mean()),
    "gradient, per sample": ({"per_sample": True}, lambda *args: _gradient_gap(*args).mean()),
    "gradient, per sample, squared": (
        {"per_sample": True, "squared": True},
        lambda *args: (_gradient_gap(*args) ** 2).mean(),
    ),
}


@pytest.mark.parametrize("name", TERMS)
def test_terms(name: str) -> None:
    form, term = TERMS[name]
    hook, net, x, y = _setup(weight=1.7, penalty=name.split(",")[0])
    twin = copy.deepcopy(net)
    torch.manual_seed(1)
    expected = _naive(twin, x, y, term)
    torch.manual_seed(1)
    reduction = "none" if form.get("per_sample") else "mean"
    loss = hook.loss(net, x, lambda out: F.cross_entropy(out, y, reduction=reduction), **form)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-9)
    loss.backward()
    expected.backward()
    for a, b in zip(net.parameters(), twin.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, rtol=1e-7, atol=1e-10)


def test_it_leaves_what_one_plain_call_leaves() -> None:
    for weight in (1.0, 2.0):
        hook, net, x, y = _setup(weight=weight)
        plain = copy.deepcopy(net)
        call = nn.Module.__call__
        torch.manual_seed(1)
        hook.loss(net, x, lambda out, y=y: F.cross_entropy(out, y))
        after = torch.rand(1)
        torch.manual_seed(1)
        plain(x)
        assert torch.equal(after, torch.rand(1))
        assert all(torch.equal(a, b) for a, b in zip(net.buffers(), plain.buffers(), strict=True))
        assert nn.Module.__call__ is call
        assert not x.requires_grad
        assert all(p.grad is None for p in net.parameters())


def test_gradients_reach_an_input_that_asks_for_them() -> None:
    for weight in (1.0, 2.0):
        hook, net, x, y = _setup(weight=weight)
        net.eval()
        x.requires_grad_()
        hook.loss(net, x, lambda out, y=y: F.cross_entropy(out, y)).backward()
        other = x.detach().clone().requires_grad_()
        here = F.cross_entropy(net(other), y)
        (g,) = torch.autograd.grad(here, other, retain_graph=True)
        z = H * g / g.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        there = F.cross_entropy(net(other + z), y)
        (here + weight * (there - here).abs()).backward()
        assert torch.allclose(x.grad, other.grad, rtol=1e-9)


def test_without_gradients_it_is_the_plain_loss() -> None:
    hook, net, x, y = _setup()
    net.eval()
    with torch.no_grad():
        assert torch.equal(hook.loss(net, x, lambda out: F.cross_entropy(out, y)), F.cross_entropy(net(x), y))
    assert hook.summary().steps == 0


def test_every_counts_calls() -> None:
    hook, net, x, y = _setup(every=3)
    for _ in range(7):
        hook.loss(net, x, lambda out: F.cross_entropy(out, y)).backward()
    assert (hook.summary().steps, hook.summary().regularised_steps) == (7, 3)


def test_inside_a_context_it_counts_as_reached() -> None:
    w = world()
    twin = world()
    opt, opt_twin = w.optimizer(), twin.optimizer()
    hook = CurvatureHook(h=H)
    objective = Twin(twin.net, h=H)
    with hook:
        for x, y in w.data:
            opt.zero_grad()
            hook.loss(w.net, x, lambda out, y=y: F.cross_entropy(out, y)).backward()
            opt.step()
    for x, y in twin.data:
        opt_twin.zero_grad()
        objective(lambda x, y=y: F.cross_entropy(twin.net(x), y), x).backward()
        opt_twin.step()
    for a, b in zip(w.net.parameters(), twin.net.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    assert hook.summary().regularised_steps == 4


def test_a_plain_function_may_stand_for_the_model() -> None:
    hook, net, x, y = _setup()
    by_module = hook.loss(net.eval(), x, lambda out: F.cross_entropy(out, y))
    by_function = hook.loss(lambda x: net(x), x, lambda out: F.cross_entropy(out, y))
    assert torch.equal(by_module, by_function)


@pytest.mark.parametrize(("reduction", "per_sample"), [("none", False), ("mean", True)])
def test_wrong_shapes(reduction: str, per_sample: bool) -> None:
    hook, net, x, y = _setup()
    with pytest.raises(ConfigError, match="loss_fn must return") as error:
        hook.loss(net, x, lambda out: F.cross_entropy(out, y, reduction=reduction), per_sample=per_sample)
    assert "for a batch of 8" in str(error.value)


def test_squared_gradients_need_samples() -> None:
    hook, net, x, y = _setup(penalty="gradient")
    with pytest.raises(ConfigError, match="needs per-sample losses"):
        hook.loss(net, x, lambda out: F.cross_entropy(out, y), squared=True)


class Rescaled(nn.Module):
    """A criterion that keeps running statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.calls = nn.BatchNorm1d(4).double(), 0

    def forward(self, out: Tensor, y: Tensor) -> Tensor:
        self.calls += 1
        return F.cross_entropy(self.norm(out), y)


@pytest.mark.parametrize("options", [{"weight": 1.0}, {"weight": 2.0}, {"penalty": "gradient"}])
@pytest.mark.parametrize("form", ["module", "lambda", "forward", "part", "criterion"])
def test_statistics_move_once_whatever_form_the_model_has(form: str, options: dict) -> None:
    hook, net, x, y = _setup(**options)
    plain, criterion = copy.deepcopy(net), Rescaled()
    model = {"lambda": lambda x: net(x), "forward": net.forward, "part": lambda x: net[5:](net[:5](x))}.get(form, net)
    loss_fn = (lambda out: criterion(out, y)) if form == "criterion" else (lambda out: F.cross_entropy(out, y))
    torch.manual_seed(1)
    hook.loss(model, x, loss_fn).backward()
    after = torch.rand(1)
    torch.manual_seed(1)
    out = plain(x)
    assert torch.equal(after, torch.rand(1))
    assert all(torch.equal(a, b) for a, b in zip(net.buffers(), plain.buffers(), strict=True))
    if form == "criterion":
        alone = Rescaled()
        alone(out, y)
        assert criterion.calls == 1
        assert all(torch.equal(a, b) for a, b in zip(criterion.buffers(), alone.buffers(), strict=True))


def test_nested_inputs() -> None:
    hook, net, x, y = _setup(weight=2.0)
    net.eval()
    whole = hook.loss(net, x, lambda out: F.cross_entropy(out, y))
    as_dict = hook.loss(lambda b: net(b["x"]), {"x": x, "y": y}, lambda out: F.cross_entropy(out, y))
    assert as_dict.item() == pytest.approx(whole.item(), rel=1e-12)
    as_images = hook.loss(lambda images: net(torch.stack(images)), list(x), lambda out: F.cross_entropy(out, y))
    assert as_images.item() == pytest.approx(whole.item(), rel=1e-12)
