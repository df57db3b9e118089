"""Delivering the objective's gradients in separate passes, which costs the least (no graph is kept)."""

from __future__ import annotations

import torch
from torch import Tensor

from guard_plugins.curvature.penalty import sample_norms
from guard_plugins.curvature.replay import differentiating
from guard_plugins.curvature.step import Outcome, Step, filled


def deliver_apart(step: Step) -> Outcome:
    """Deliver the gradients of ℓ̄ + w|ℓ̄⁺ − ℓ̄| as (1 − w·s)∇ℓ̄ + w·s·∇ℓ̄⁺, where s is the sign of the difference.

    s = 1 is assumed until it is known, since z points uphill; where it turns out otherwise, what is missing
    (w(1 − s)∇ℓ̄) comes from a second clean pass. So the result is exact, and reading s waits for nothing.
    """
    gradients = _clean_pass(step)
    step.check.compare(step, gradients)
    norms = [sample_norms(g) for g in gradients]
    displaced = step.replay.run(step.displaced(gradients, norms), step.keep)
    difference = displaced.detach() - step.replay.value.detach()
    sign = difference.sign()
    step.call.deliver(displaced, step.options.weight * sign)
    # read only now: an accelerator has the whole backward pass queued by then
    actual = sign.item()
    if actual in (-1.0, 0.0):
        clean = step.replay.run([x.detach() for x in step.replay.leaves()], step.keep)
        step.call.deliver(clean, step.options.weight * (1 - actual))
    return step.outcome(difference=difference, term=difference.abs(), norms=norms)


def _clean_pass(step: Step) -> list[Tensor]:
    """Deliver (1 − w)∇ℓ̄ and return ∇ₓℓ̄; with w = 1 nothing is delivered and no weight gradient computed."""
    rest = 1 - step.options.weight
    leaves, value, retain = step.replay.leaves(), step.replay.value, step.call.retain
    with differentiating():
        if rest == 0:
            return filled(torch.autograd.grad(value, leaves, retain_graph=retain, allow_unused=True), leaves)
        return [gradient / rest for gradient in step.call.deliver(value, rest, retain=retain, also=leaves)]
