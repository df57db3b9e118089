"""Delivering the objective's gradients through one graph and one backward pass, as the loop asked for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from guard_plugins.curvature import messages
from guard_plugins.curvature.penalty import gradient_term, sample_norms
from guard_plugins.curvature.replay import differentiating
from guard_plugins.curvature.step import Outcome, Step, filled
from guard_plugins.curvature.wrappers import is_compiled, is_ddp
from guard_plugins.errors import HookError


@dataclass(frozen=True)
class _Base:
    """ℓ̄(x) that the term starts from, and its gradients g."""

    value: Tensor
    gradients: list[Tensor]


def deliver_in_one_pass(step: Step) -> Outcome:
    """Deliver the gradients of ℓ̄ + weight · term; every penalty and ``norm_stats`` can go this way."""
    running, double = step.options.norm_stats == "running", step.options.penalty == "gradient"
    own_graph = not _graph_is_off_limits(step)
    loop = (
        _from_loop(step, double=double and not running) if own_graph and not (running and not step.check.due) else None
    )
    step.check.compare(step, None if loop is None else loop.gradients)
    base = _from_replay(step, double=double, running=running) if running or loop is None else loop
    here = base.value if running else step.replay.value
    gradients = [g.detach() for g in base.gradients]
    norms = [sample_norms(g) for g in gradients]
    moved = [x.requires_grad_(double) for x in step.displaced(gradients, norms)]
    displaced = step.replay.run(moved, step.keep, evaluation=running)
    difference = displaced - here
    with _differentiating_twice(double):
        term = _gradient_term(displaced, moved, base) if double else difference.abs()
        step.call.deliver(step.replay.value + step.options.weight * term, 1.0, retain=step.call.retain)
    return step.outcome(difference=difference, term=term, norms=norms)


def _from_loop(step: Step, *, double: bool) -> _Base:
    value, leaves = step.replay.value, step.replay.leaves()
    return _Base(value, _gradients(value, leaves, double=double))


def _from_replay(step: Step, *, double: bool, running: bool) -> _Base:
    leaves = step.replay.fresh()
    value = step.replay.run(leaves, step.keep, evaluation=running)
    return _Base(value, _gradients(value, leaves, double=double))


def _gradients(value: Tensor, leaves: list[Tensor], *, double: bool) -> list[Tensor]:
    with _differentiating_twice(True) if double else differentiating():
        grads = torch.autograd.grad(value, leaves, retain_graph=True, create_graph=double, allow_unused=True)
    return filled(grads, leaves)


def _gradient_term(displaced: Tensor, moved: list[Tensor], base: _Base) -> Tensor:
    there = torch.autograd.grad(displaced, moved, create_graph=True, allow_unused=True)
    return gradient_term(filled(there, moved), base.gradients)


def _graph_is_off_limits(step: Step) -> bool:
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
        raise messages.no_double_backward(error) from error
