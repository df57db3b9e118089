"""Implicit layers: a fixed point without gradients, and a gradient hook that solves the backward pass."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from guard_plugins.curvature import CurvatureHook
from guard_plugins.errors import HookError
from tests.curvature.test_around_calls import H, as_written, compare, plain, steps, trained

STEPS = 30


class Equilibrium(nn.Module):
    """A layer whose output is its own input, as deep equilibrium models have it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer, self.head = nn.Linear(12, 12), nn.Linear(16, 12), nn.Linear(12, 4)

    def step(self, z: Tensor, x: Tensor) -> Tensor:
        return torch.tanh(0.3 * self.inner(z) + self.outer(x))

    def solved(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            z = torch.zeros(len(x), 12, dtype=x.dtype)
            for _ in range(STEPS):
                z = self.step(z, x)
        return z


class OfItsOwn(Equilibrium):
    """Differentiates a graph of its own, as the tutorial does."""

    def forward(self, x: Tensor) -> Tensor:
        z = self.step(self.solved(x), x)
        z0 = z.clone().detach().requires_grad_()
        f0 = self.step(z0, x.detach())

        def solve(y: Tensor) -> Tensor:
            gradient = y
            for _ in range(STEPS):
                gradient = torch.autograd.grad(f0, z0, gradient, retain_graph=True)[0] + y
            return gradient

        if z.requires_grad:
            z.register_hook(solve)
        return self.head(z)


class Removed(Equilibrium):
    """Differentiates the graph that has the hook, and removes it for that, by an attribute."""

    def forward(self, x: Tensor) -> Tensor:
        z = self.solved(x).requires_grad_()
        new = self.step(z, x)

        def solve(y: Tensor) -> Tensor:
            if self.handle is not None:
                self.handle.remove()
                self.handle = None
            return torch.autograd.grad(new, z, y, retain_graph=True)[0] + y

        self.handle = new.register_hook(solve)
        return self.head(new)


def test_a_backward_pass_on_a_graph_of_its_own_is_followed() -> None:
    compare(steps(plain), OfItsOwn)


def test_a_hook_that_would_never_end_is_refused() -> None:
    trained(steps(plain), Removed, as_written)  # ends without the curvature hook
    with pytest.raises(HookError, match="calls backward within itself without end") as caught:
        trained(steps(plain), Removed, hook=CurvatureHook(h=H))
    assert "z0 = z.detach().requires_grad_()" in caught.value.do
    trained(steps(plain), OfItsOwn, hook=CurvatureHook(h=H))  # nothing of it is left
