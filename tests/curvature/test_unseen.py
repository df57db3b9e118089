"""Backward calls the hook does not see: refused where their gradients are still there when an optimiser steps."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from guard_plugins.curvature import CurvatureHook
from guard_plugins.errors import HookError
from tests.curvature.gaps import H, gap
from tests.curvature.grammar import Reversed

X = torch.randn(6, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.tensor([0, 1, 2, 3, 1, 0])
CE = F.cross_entropy


class Parts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.trunk, self.head, self.domain = nn.Linear(16, 8), nn.Linear(8, 4), nn.Linear(8, 4)
        self.double()


@torch.jit.script
def scripted(out: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(out, y)


def penalty_of_gradients(n: Parts, x: Tensor) -> Tensor:
    moving = x.detach().clone().requires_grad_()
    (g,) = torch.autograd.grad(n.head(n.trunk(moving).tanh()).square().sum(), moving, create_graph=True)
    return g.square().mean()


APART: dict[str, Callable[[Parts, Tensor, Tensor], Tensor]] = {
    "gradient reversal": lambda n, x, f: CE(n.domain(Reversed.apply(f)), Y),
    "a scripted loss": lambda n, x, f: scripted(n.domain(f), Y),
    "a penalty of gradients": lambda n, x, f: penalty_of_gradients(n, x),
    "a penalty of weights": lambda n, x, f: sum(p.square().sum() for p in n.parameters()),
    "an input that requires a gradient": lambda n, x, f: CE(n.head(n.trunk(x.clone().requires_grad_())), Y),
}


def _step(n: Parts, order: str, apart: Callable[[Parts, Tensor, Tensor], Tensor]) -> None:
    opt = torch.optim.SGD(n.parameters(), 0.1)
    with CurvatureHook(h=H) as hook:
        features = n.trunk(X).tanh()
        seen = CE(n.head(features), Y)
        other = apart(n, X, features)
        for loss in (seen, other) if order == "after" else (other, seen):
            if order == "paused" and loss is other:
                with hook.paused():
                    loss.backward(retain_graph=True)
            else:
                loss.backward(retain_graph=True)
        opt.step()


@pytest.mark.parametrize("order", ["after", "before"])
@pytest.mark.parametrize("name", [name for name in APART if name != "a penalty of gradients"])
def test_a_loss_of_its_own_is_refused_at_the_step(name: str, order: str) -> None:
    n = Parts()
    before = [p.clone() for p in n.parameters()]
    with pytest.raises(HookError, match="gradients the hook never saw") as error:
        _step(n, order, APART[name])
    assert all(torch.equal(a, b) for a, b in zip(before, n.parameters(), strict=True))
    text = str(error.value)
    assert "a tensor of shape () made by" in text
    assert "hook.paused()" in text


@pytest.mark.parametrize("how", ["apart", "summed"])
def test_a_penalty_of_gradients_is_refused(how: str) -> None:
    n = Parts()

    def run() -> None:
        with CurvatureHook(h=H):
            loss, penalty = CE(n.head(n.trunk(X).tanh()), Y), penalty_of_gradients(n, X)
            for root in (loss, penalty) if how == "apart" else (loss + penalty,):
                root.backward()

    with pytest.raises(HookError, match="create_graph=True"):
        run()


@pytest.mark.parametrize("name", APART)
def test_paused_it_passes(name: str) -> None:
    n = Parts()
    before = n.head.weight.clone()
    _step(n, "paused", APART[name])
    assert not torch.equal(before, n.head.weight)


@pytest.mark.parametrize("how", ["zero_grad", "in place", "none", "new gradient"])
def test_gradients_of_an_attack_that_are_zeroed_are_no_matter(how: str) -> None:
    n = Parts()
    opt = torch.optim.SGD(n.parameters(), 0.1)
    with CurvatureHook(h=H) as hook:
        for _ in range(2):
            adversarial = X.clone().requires_grad_()
            CE(n.head(n.trunk(adversarial)), Y).backward()
            match how:
                case "zero_grad":
                    opt.zero_grad(set_to_none=False)
                case "in place":
                    for p in n.parameters():
                        if p.grad is not None:
                            p.grad.zero_()
                case "none":
                    opt.zero_grad()
                case "new gradient":
                    for p in n.parameters():
                        p.grad = torch.zeros_like(p)
            CE(n.head(n.trunk((X + adversarial.grad.sign()).detach())), Y).backward()
            opt.step()
            opt.zero_grad()
    assert hook.summary().regularised_steps == 2


@pytest.mark.parametrize("clip", [False, True])
def test_gradients_scaled_in_place_are_still_there(clip: bool) -> None:
    n = Parts()
    opt = torch.optim.SGD(n.parameters(), 0.1)

    def step() -> None:
        with CurvatureHook(h=H):
            scripted(n.domain(n.trunk(X)), Y).backward()
            if clip:
                nn.utils.clip_grad_norm_(n.parameters(), 1e-3)
            CE(n.head(n.trunk(X)), Y).backward()
            opt.step()

    with pytest.raises(HookError, match="never saw"):
        step()


@pytest.mark.parametrize("wanted", ["weights", "input"])
def test_autograd_grad_of_a_loss_outside_the_record(wanted: str) -> None:
    n = Parts()

    def run() -> None:
        with CurvatureHook(h=H):
            CE(n.head(n.trunk(X)), Y).backward()
            moving = X.clone().requires_grad_()
            loss = CE(n.head(n.trunk(moving)), Y)
            torch.autograd.grad(loss, list(n.head.parameters()) if wanted == "weights" else moving)

    if wanted == "input":
        run()
        return
    with pytest.raises(HookError, match="asked for gradients of weights the hook never saw"):
        run()


@pytest.mark.parametrize("name", ["fft", "rfft", "complex product"])
def test_complex_losses_are_followed(name: str) -> None:
    n = Parts()
    losses = {
        "fft": lambda out: torch.fft.fft(out).abs().mean(),
        "rfft": lambda out: (torch.fft.rfft(out) * 2).real.square().mean(),
        "complex product": lambda out: torch.complex(out, out * 2).abs().square().sum(),
    }
    for weight in (1.0, 2.0):
        hook = CurvatureHook(h=H, weight=weight)
        assert gap(n, lambda x: losses[name](n.head(n.trunk(x).tanh())), X.clone(), hook=hook) <= 1e-9


def test_another_model_trained_on_integers_is_refused_unless_paused() -> None:
    n, words = Parts(), nn.Embedding(5, 4).double()
    opt = torch.optim.SGD([*n.parameters(), *words.parameters()], 0.1)

    def step(paused: bool) -> None:
        with CurvatureHook(h=H) as hook:
            CE(n.head(n.trunk(X)), Y).backward()
            loss = CE(words(Y), Y)
            if paused:
                with hook.paused():
                    loss.backward()
            else:
                loss.backward()
            opt.step()

    with pytest.raises(HookError, match="never saw") as error:
        step(paused=False)
    assert "Embedding: no floating-point tensor among its inputs" in str(error.value)
    step(paused=True)


@pytest.mark.parametrize("wanted", ["weights", "features"])
def test_several_gradients_at_once(wanted: str) -> None:
    n = Parts()

    def run() -> None:
        with CurvatureHook(h=H):
            features = n.trunk(X).tanh()
            losses = torch.stack([CE(n.head(features), Y), features.square().mean()])
            of = list(n.trunk.parameters()) if wanted == "weights" else features
            found = torch.autograd.grad(losses, of, torch.eye(2).double(), is_grads_batched=True, retain_graph=True)
            assert len(found[0]) == 2
            losses.sum().backward()

    if wanted == "features":
        run()
        return
    with pytest.raises(HookError, match="is_grads_batched=True"):
        run()
