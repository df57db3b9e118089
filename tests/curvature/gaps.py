"""One backward pass under the hook against the objective by hand: the gap, or the refusal."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from guard_plugins.curvature import CurvatureHook

H = 0.5
Objective = Callable[..., Tensor]


def by_hand(
    f: Objective, xs: Sequence[Tensor], weights: Sequence[Tensor], *, weight: float = 1.0, h: float = H
) -> list[Tensor]:
    """Return the weight gradients of ℓ(x) + weight · |ℓ(x + z) − ℓ(x)|, each tensor of ``xs`` with its own z."""
    leaves = [x.detach().clone().requires_grad_() for x in xs]
    loss = f(*leaves)
    grads = torch.autograd.grad(loss, leaves, retain_graph=True)
    moved = [
        x.detach() + h * g / g.flatten(1).norm(dim=1).view(-1, *[1] * (g.dim() - 1))
        for x, g in zip(leaves, grads, strict=True)
    ]
    found = torch.autograd.grad(loss + weight * (f(*moved) - loss).abs(), weights, allow_unused=True)
    return filled(found, weights)


def filled(gradients: Sequence[Tensor | None], weights: Sequence[Tensor]) -> list[Tensor]:
    return [torch.zeros_like(w) if g is None else g.detach().clone() for g, w in zip(gradients, weights, strict=True)]


def distance(ours: Sequence[Tensor], twin: Sequence[Tensor]) -> float:
    a, b = torch.cat([g.flatten() for g in ours]), torch.cat([g.flatten() for g in twin])
    assert float(b.norm()) > 0
    return float((a - b).norm() / b.norm())


def under_hook(net: nn.Module, run: Callable[[CurvatureHook], Tensor], hook: CurvatureHook) -> list[Tensor]:
    """Return the weight gradients after one ``run(hook).backward()``."""
    net.zero_grad()
    with hook:
        run(hook).backward()
    return filled([p.grad for p in net.parameters()], list(net.parameters()))


def gap(net: nn.Module, f: Objective, *xs: Tensor, watch: bool = False, hook: CurvatureHook | None = None) -> float:
    """Return how far the gradients under the hook are from those of the objective by hand.

    Args:
        net: Holds every weight of the loop.
        f: The loss of the loop as a function of its data.
        xs: The data.
        watch: Whether the loop marks its data with ``hook.watch``.
        hook: The hook, by default one with h = 0.5 and weight 1.
    """
    hook = hook or CurvatureHook(h=H)
    ours = under_hook(net, lambda hook: f(*[hook.watch(x) if watch else x for x in xs]), hook)
    return distance(ours, by_hand(f, xs, list(net.parameters()), weight=hook.options.weight))
