"""Delivering the objective's gradients: in separate passes, which costs the least, or in one where they must meet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from guard_plugins.curvature.messages import about_losses
from guard_plugins.curvature.objective.penalty import Outcome, gradient_term
from guard_plugins.curvature.objective.processes import absolute, group_of, mean_over, outcome_over
from guard_plugins.curvature.record.backward_call import filled
from guard_plugins.curvature.replay.regularised_pass import Pass
from guard_plugins.curvature.replay.replay import differentiating
from guard_plugins.curvature.state.wrappers import is_compiled, is_ddp
from guard_plugins.errors import HookError


def deliver(step: Pass) -> Outcome:
    """Deliver the gradients of the objective where the loop asked for them."""
    group = group_of(step.replay.modules())
    return outcome_over(group, deliver_in_one_pass(step, group) if _must_meet(step) else deliver_apart(step, group))


def _must_meet(step: Pass) -> bool:
    """Return whether all gradients must arrive together: a term with a graph, an onlooker, or a shared graph."""
    if step.options.penalty == "gradient" or step.options.norm_stats == "running":
        return True
    calls = step.replay.calls
    weights = (*(p for c in calls for p in c.parameters), *step.replay.beside())
    watched = any(p._backward_hooks or getattr(p, "_post_accumulate_grad_hooks", None) for p in weights)
    shared = bool(step.replay.attached) or parametrize._cache_enabled > 0
    return watched or step.call.create or shared or any(map(is_ddp, step.replay.modules()))


def deliver_apart(step: Pass, group: Any) -> Outcome:
    """Deliver the gradients of ℓ̄ + w|ℓ̄⁺ − ℓ̄| as (1 − w·s)∇ℓ̄ + w·s·∇ℓ̄⁺, where s is the sign of the difference.

    s = 1 is assumed until it is known, since z points uphill; where it turns out otherwise, what is missing
    (w(1 − s)∇ℓ̄) comes from a second clean pass. So the result is exact, and reading s waits for nothing.
    """
    checked = _check_early(step)
    gradients = _clean_pass(step)
    if not checked:
        step.check.compare(step.replay, step.keep, gradients)
    norms = step.norms(gradients)
    displaced = step.replay.run(step.displaced(gradients, norms), step.keep)
    step.check.require_weights()
    difference = displaced.detach() - step.replay.value.detach()
    sign = mean_over(group, difference).sign()
    step.call.deliver(displaced, step.options.weight * sign)
    # read only now: an accelerator has the whole backward pass queued by then
    actual = sign.item()
    if actual in (-1.0, 0.0):
        clean = step.replay.run([x.detach() for x in step.replay.leaves()], step.keep)
        step.call.deliver(clean, step.options.weight * (1 - actual))
    return step.outcome(difference=difference, term=sign * difference, norms=norms)


def _check_early(step: Pass) -> bool:
    """Check the pass before any of it is delivered, and return whether that was done.

    With weight 1 nothing is delivered before the check anyway. Compiled code frees buffers at its first backward, so
    its graph is used once.
    """
    if step.options.weight == 1 or not step.check.due or any(map(is_compiled, step.replay.modules())):
        return False
    step.check.compare(step.replay, step.keep, _gradients(step.replay.value, step.replay.leaves(), double=False))
    return True


def _clean_pass(step: Pass) -> list[Tensor]:
    """Deliver (1 − w)∇ℓ̄ and return ∇ₓℓ̄; with w = 1 nothing is delivered and no weight gradient computed."""
    rest = 1 - step.options.weight
    leaves, value, retain = step.replay.leaves(), step.replay.value, step.call.retain
    with differentiating():
        if rest == 0:
            return filled(torch.autograd.grad(value, leaves, retain_graph=retain, allow_unused=True), leaves)
        return [gradient / rest for gradient in step.call.deliver(value, rest, retain=retain, also=leaves)]


@dataclass(frozen=True)
class _Base:
    """ℓ̄(x) that the term starts from, and its gradients g."""

    value: Tensor
    gradients: list[Tensor]


def deliver_in_one_pass(step: Pass, group: Any) -> Outcome:
    """Deliver the gradients of ℓ̄ + weight · term; every penalty and ``norm_stats`` can go this way."""
    running, double = step.options.norm_stats == "running", step.options.penalty == "gradient"
    own_graph = not _graph_is_off_limits(step)
    loop = (
        _from_loop(step, double=double and not running) if own_graph and not (running and not step.check.due) else None
    )
    step.check.compare(step.replay, step.keep, None if loop is None else loop.gradients)
    base = _from_replay(step, double=double, running=running) if running or loop is None else loop
    here = base.value if running else step.replay.value
    gradients = [g.detach() for g in base.gradients]
    norms = step.norms(gradients)
    moved = [x.requires_grad_(double) for x in step.displaced(gradients, norms)]
    displaced = step.replay.run(moved, step.keep, evaluation=running)
    step.check.require_weights()
    difference = displaced - here
    with _differentiating_twice(double):
        term = _gradient_term(step, displaced, moved, base) if double else absolute(difference, group)
        step.call.deliver(step.replay.value + step.options.weight * term, 1.0, retain=step.call.retain)
    return step.outcome(difference=difference, term=term, norms=norms)


def _from_loop(step: Pass, *, double: bool) -> _Base:
    value, leaves = step.replay.value, step.replay.leaves()
    return _Base(value, _gradients(value, leaves, double=double))


def _from_replay(step: Pass, *, double: bool, running: bool) -> _Base:
    leaves = step.replay.fresh()
    value = step.replay.run(leaves, step.keep, evaluation=running)
    return _Base(value, _gradients(value, leaves, double=double))


def _gradients(value: Tensor, leaves: list[Tensor], *, double: bool) -> list[Tensor]:
    with _differentiating_twice(True) if double else differentiating():
        grads = torch.autograd.grad(value, leaves, retain_graph=True, create_graph=double, allow_unused=True)
    return filled(grads, leaves)


def _gradient_term(step: Pass, displaced: Tensor, moved: list[Tensor], base: _Base) -> Tensor:
    there = torch.autograd.grad(displaced, moved, create_graph=True, allow_unused=True)
    return gradient_term(filled(there, moved), base.gradients, step.norms)


def _graph_is_off_limits(step: Pass) -> bool:
    """Return whether the loop's graph may be differentiated only by its own backward.

    DDP with a static graph counts the passes through it; compiled code under DDP has buffers it frees at the first.
    """
    wrapped = [m for m in step.replay.modules() if is_ddp(m)]
    return any(bool(getattr(m, "static_graph", False)) or is_compiled(m) for m in wrapped) or (
        step.options.penalty == "loss" and any(map(is_compiled, step.replay.modules()))
    )


@contextmanager
def _differentiating_twice(double: bool) -> Iterator[None]:
    try:
        yield
    except (torch.OutOfMemoryError, HookError):
        raise
    except RuntimeError as error:
        if not double:
            raise
        raise about_losses.no_double_backward(error) from error
