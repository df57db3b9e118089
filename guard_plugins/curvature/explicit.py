"""The explicit form: the regularised objective as an ordinary differentiable scalar, nothing patched."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from guard_plugins.curvature.options import Options
from guard_plugins.curvature.penalty import curvature, sample_norms, step_along
from guard_plugins.curvature.states import Buffers, RandomState, evaluation_mode
from guard_plugins.curvature.step import Outcome
from guard_plugins.curvature.tally import Tally
from guard_plugins.curvature.wrappers import is_compiled, without_ddp
from guard_plugins.errors import ConfigError

if TYPE_CHECKING:
    from guard_plugins.curvature.session import Session


@dataclass(frozen=True, kw_only=True)
class Form:
    """How the per-sample losses enter the term.

    Attributes:
        per_sample: Take the mean of per-sample terms.
        squared: Square the terms.
    """

    per_sample: bool
    squared: bool


def explicit_loss(
    options: Options,
    tally: Tally,
    model: Callable[[Tensor], Any],
    x: Tensor,
    loss_fn: Callable[..., Tensor],
    *,
    per_sample: bool,
    squared: bool,
    session: Session | None,
) -> Tensor:
    """Return the regularised objective at ``x``; see ``CurvatureHook.loss``.

    Raises:
        ConfigError: If ``loss_fn`` returns the wrong shape, or the options do not fit the penalty.
    """
    if squared and options.penalty == "gradient" and not per_sample:
        raise ConfigError(
            'squared=True with penalty="gradient" needs per-sample losses',
            do="pass per_sample=True and a loss_fn that returns losses of shape (B,)",
        )
    due = options.due(tally.steps) and torch.is_grad_enabled()
    with nullcontext() if session is None else session.listening_off():
        if due:
            started = time.perf_counter()
            form = Form(per_sample=per_sample, squared=squared)
            total, outcome = _Evaluation(options, model, x, loss_fn, form).objective(tally.steps)
            tally.add(outcome, time.perf_counter() - started)
        else:
            losses = loss_fn(model(x))
            total = losses.mean() if per_sample else losses.reshape(())
    if session is not None:
        session.tripwires.reached(regularised=due)
    elif torch.is_grad_enabled():
        tally.advance(regularised=due)
    return total


class _Evaluation:
    """Evaluates the losses of one batch at several inputs, each as if it were the only time."""

    def __init__(
        self, options: Options, model: Callable[[Tensor], Any], x: Tensor, loss_fn: Callable[..., Tensor], form: Form
    ) -> None:
        self.options, self.model, self.loss_fn, self.form = options, model, loss_fn, form
        self.x = x if x.requires_grad else x.detach().requires_grad_()
        self.owned = not x.requires_grad
        self.modules = [m for m in (model, options.model) if isinstance(m, nn.Module)]
        self.random = RandomState.save(self._devices())
        self.losses = self._checked(loss_fn(model(self.x)))
        self.keep = (RandomState.save(self._devices()), Buffers(self.modules))

    def _devices(self) -> Iterable[torch.device]:
        return {self.x.device, *(p.device for m in self.modules for p in m.parameters())}

    def _checked(self, losses: Tensor) -> Tensor:
        fits = losses.shape == self.x.shape[:1] if self.form.per_sample else losses.numel() == 1
        if not fits:
            raise ConfigError(
                "loss_fn must return " + ("one loss per sample" if self.form.per_sample else "one number"),
                seen=f"shape {tuple(losses.shape)} for a batch of {len(self.x)}",
                do="return losses of shape (B,) with per_sample=True, their mean otherwise",
            )
        return losses if self.form.per_sample else losses.reshape(())

    def at(self, x: Tensor) -> Tensor:
        """Return the losses at ``x`` under the same random draws; buffers and streams stay as they are."""
        running = self.options.norm_stats == "running"
        model = without_ddp(self.model) if isinstance(self.model, nn.Module) else self.model
        try:
            self.random.restore()
            with evaluation_mode(self.modules) if running else nullcontext():
                return self._checked(self.loss_fn(model(x)))
        finally:
            for state in self.keep:
                state.restore()

    def objective(self, step: int) -> tuple[Tensor, Outcome]:
        """Return ℓ̄ + weight · term and what was measured."""
        h = self.options.step_length(self.x[0].numel() if len(self.x) else 1, step)
        if self.options.penalty == "gradient":
            return self._gradient_objective(h)
        if self._may_drop_clean_graph():
            return self._displaced_alone(h)
        base = self._base()
        gradient = self._gradient(base, self.x)
        displaced = self.at(self._moved(gradient, h))
        term = self._power((displaced - base).abs())
        total = self.losses.mean() + self.options.weight * term.mean()
        return total, self._outcome((displaced - base).mean(), term.mean(), gradient, h)

    def _may_drop_clean_graph(self) -> bool:
        simple = not (self.form.per_sample or self.form.squared) and self.options.norm_stats == "batch"
        return simple and self.owned and self.options.weight == 1

    def _displaced_alone(self, h: float) -> tuple[Tensor, Outcome]:
        """Weight 1: ℓ̄ + |ℓ̄⁺ − ℓ̄| is ℓ̄⁺ itself where that is the larger, so the clean graph can be freed."""
        (gradient,) = torch.autograd.grad(self.losses, self.x)
        displaced = self.at(self._moved(gradient, h))
        difference = displaced.detach() - self.losses.detach()
        outcome = self._outcome(difference, difference.abs(), gradient, h)
        if difference.item() > 0:
            return displaced, outcome
        clean = self.at(self.x.detach())
        return clean + (displaced - clean).abs(), outcome

    def _gradient_objective(self, h: float) -> tuple[Tensor, Outcome]:
        base = self._base()
        (here,) = torch.autograd.grad(base.sum(), self.x, create_graph=True)
        moved = self._moved(here.detach(), h)
        moved = moved.requires_grad_() if self.owned else moved
        displaced = self.at(moved)
        (there,) = torch.autograd.grad(displaced.sum(), moved, create_graph=True)
        norms = self._power(sample_norms(there - here))
        term = norms.mean() if self.form.per_sample else norms.sum()
        total = self.losses.mean() + self.options.weight * term
        return total, self._outcome((displaced - base).mean(), term, here.detach(), h)

    def _base(self) -> Tensor:
        """Return the losses the term starts from: the loop's own, or those of the mode ``norm_stats`` asks for."""
        return self.at(self.x) if self.options.norm_stats == "running" else self.losses

    def _gradient(self, base: Tensor, x: Tensor) -> Tensor:
        if any(map(is_compiled, self.modules)):
            # compiled code frees buffers it donated at the first backward, so its graph cannot be used twice
            x = x.detach().requires_grad_()
            return torch.autograd.grad(self.at(x).sum(), x)[0]
        return torch.autograd.grad(base.sum(), x, retain_graph=True)[0]

    def _moved(self, gradient: Tensor, h: float) -> Tensor:
        start = self.x.detach() if self.owned else self.x
        return start + step_along(gradient, sample_norms(gradient), h)

    def _power(self, terms: Tensor) -> Tensor:
        return terms.square() if self.form.squared else terms

    def _outcome(self, difference: Tensor, term: Tensor, gradient: Tensor, h: float) -> Outcome:
        norms = sample_norms(gradient)
        slope = norms.mean() if self.form.per_sample else norms.sum()
        kappa = curvature(difference.detach(), h * slope, h)
        return Outcome(self.losses.detach().mean(), term.detach(), slope, kappa)
