"""The explicit form: the regularised objective as an ordinary differentiable scalar, nothing patched."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from guard_plugins.curvature.objective.counters import Paces, Tally
from guard_plugins.curvature.objective.options import Options
from guard_plugins.curvature.objective.penalty import Outcome, curvature
from guard_plugins.curvature.objective.processes import absolute, group_of, outcome_over, squared
from guard_plugins.curvature.record.backward_call import filled
from guard_plugins.curvature.state.module_state import Attributes, Before, Buffers
from guard_plugins.curvature.state.snapshots import Contents, RandomState, called_modules, evaluation_mode, modules_in
from guard_plugins.curvature.state.wrappers import is_compiled, without_ddp
from guard_plugins.curvature.structured import Inputs
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
    paces: Paces,
    model: Callable[..., Any],
    x: Any,
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
    _require_functions(model, loss_fn)
    if squared and options.penalty == "gradient" and not per_sample:
        raise ConfigError(
            'squared=True with penalty="gradient" needs per-sample losses',
            do="pass per_sample=True and a loss_fn that returns losses of shape (B,)",
        )
    keys = modules_in(model)
    if session is not None:
        for key in keys:
            session.watchdog.called(key)
    step = paces.of(keys[0]) if keys else tally.steps
    due = options.due(step) and torch.is_grad_enabled()
    with nullcontext() if session is None else session.listening_off():
        if due:
            started = time.perf_counter()
            form = Form(per_sample=per_sample, squared=squared)
            evaluation = _Evaluation(options, model, x, loss_fn, form)
            _compare(tally, options, evaluation.inputs)
            total, outcome = evaluation.objective(step)
            tally.add(outcome, time.perf_counter() - started)
        else:
            losses = loss_fn(model(x))
            total = losses.mean() if per_sample else losses.reshape(())
    if session is not None:
        session.explicit(total, keys, regularised=due)
    elif torch.is_grad_enabled():
        tally.advance(regularised=due)
        paces.advance(keys)
    return total


def _require_functions(model: object, loss_fn: object) -> None:
    for name, value in (("model", model), ("loss_fn", loss_fn)):
        if not callable(value):
            raise ConfigError(
                f"hook.loss needs a function as {name}",
                seen=f"{name} is a {type(value).__name__}",
                do="write hook.loss(model, x, lambda out: criterion(out, y))",
            )


def _differentiable(losses: object) -> Tensor:
    if isinstance(losses, Tensor) and losses.requires_grad:
        return losses
    raise ConfigError(
        "hook.loss needs a loss that can be differentiated",
        seen=f"loss_fn returned a {type(losses).__name__}" + (" without a graph" if isinstance(losses, Tensor) else ""),
        do="return the loss itself, computed from the model's output without .detach(), .item() or no_grad",
    )


def _compare(tally: Tally, options: Options, inputs: Inputs) -> None:
    """Have a z noticed that will be too long, where x is one tensor with a row for each sample."""
    tensor, *more = inputs.tensors
    if not more and inputs.samples == len(tensor) > 0:
        tally.compare(options.step_length(tensor.numel() // len(tensor), options.ramp), tensor)


class _Evaluation:
    """Evaluates the losses of one batch at several inputs, each as if it were the only time."""

    def __init__(
        self, options: Options, model: Callable[..., Any], x: Any, loss_fn: Callable[..., Tensor], form: Form
    ) -> None:
        self.options, self.model, self.loss_fn, self.form = options, model, loss_fn, form
        self.inputs = Inputs(x)
        self.modules = modules_in(model) + modules_in(loss_fn)
        self.modules += [] if options.model is None else [options.model]
        self.random = RandomState.save(self._devices())
        self.began: dict[int, tuple[Attributes, Before]] = {}
        for module in self.modules:
            self._enter(module)
        with called_modules(self._enter) as called:
            self.losses = self._checked(_differentiable(loss_fn(model(self.inputs.whole(self.inputs.tensors)))))
        owned = {id(x) for x in self.inputs.tensors} if self.inputs.owned else set()
        for attributes, before in self.began.values():
            attributes.drop_graphs(lambda leaf: id(leaf) in owned)
            before.drop_graphs(lambda leaf: id(leaf) in owned)
        self.modules += called
        self.group = group_of(self.modules)
        self.keep = (
            RandomState.save(self._devices()), Attributes(self.modules), Buffers(self.modules),
            Contents(t for attributes, _ in self.began.values() for t in attributes.written()),
        )  # fmt: skip

    def _enter(self, module: nn.Module) -> None:
        """Note the state that the first call of a module begins with."""
        if id(module) not in self.began:
            self.began[id(module)] = Attributes([module]), Before([module])

    def _devices(self) -> set[torch.device]:
        return self.inputs.devices | {p.device for m in self.modules for p in m.parameters()}

    def _checked(self, losses: Tensor) -> Tensor:
        expected = (self.inputs.samples,)
        if not (losses.shape == expected if self.form.per_sample else losses.numel() == 1):
            raise ConfigError(
                "loss_fn must return " + ("one loss per sample" if self.form.per_sample else "one number"),
                seen=f"shape {tuple(losses.shape)} for a batch of {self.inputs.samples}",
                do="return losses of shape (B,) with per_sample=True, their mean otherwise",
            )
        return losses if self.form.per_sample else losses.reshape(())

    def at(self, tensors: Sequence[Tensor]) -> Tensor:
        """Return the losses at ``tensors`` under the same random draws; all state stays as it is."""
        running = self.options.norm_stats == "running"
        model = without_ddp(self.model) if isinstance(self.model, nn.Module) else self.model
        try:
            self.random.restore()
            for attributes, before in self.began.values():
                attributes.restore()
                before.put()
            with evaluation_mode(self.modules) if running else nullcontext():
                return self._checked(self.loss_fn(model(self.inputs.whole(tensors))))
        finally:
            for state in self.keep:
                state.restore()

    def objective(self, step: int) -> tuple[Tensor, Outcome]:
        """Return ℓ̄ + weight · term and what was measured."""
        lengths = self.inputs.lengths(self.options, step)
        if self.options.penalty == "gradient":
            return self._gradient_objective(lengths)
        if self._may_drop_clean_graph():
            return self._displaced_alone(lengths)
        base = self._base()
        gradients = self._gradients(base)
        displaced = self.at(self.inputs.moved(gradients, lengths))
        term = self._term(displaced - base)
        total = self.losses.mean() + self.options.weight * term.mean()
        return total, self._outcome((displaced - base).mean(), term.mean(), gradients, lengths)

    def _may_drop_clean_graph(self) -> bool:
        simple = not (self.form.per_sample or self.form.squared) and self.options.norm_stats == "batch"
        return simple and self.group is None and self.inputs.owned and self.options.weight == 1

    def _displaced_alone(self, lengths: list[float]) -> tuple[Tensor, Outcome]:
        """Weight 1: ℓ̄ + |ℓ̄⁺ − ℓ̄| is ℓ̄⁺ itself where that is the larger, so the clean graph can be freed."""
        gradients = self._filled(torch.autograd.grad(self.losses, self.inputs.tensors, allow_unused=True))
        displaced = self.at(self.inputs.moved(gradients, lengths))
        difference = displaced.detach() - self.losses.detach()
        outcome = self._outcome(difference, difference.abs(), gradients, lengths)
        if difference.item() > 0:
            return displaced, outcome
        clean = self.at([x.detach() for x in self.inputs.tensors])
        return clean + (displaced - clean).abs(), outcome

    def _gradient_objective(self, lengths: list[float]) -> tuple[Tensor, Outcome]:
        base, xs = self._base(), self.inputs.tensors
        here = self._filled(torch.autograd.grad(base.sum(), xs, create_graph=True, allow_unused=True))
        moved = self.inputs.moved([g.detach() for g in here], lengths)
        moved = [m.requires_grad_() for m in moved] if self.inputs.owned else moved
        displaced = self.at(moved)
        there = self._filled(torch.autograd.grad(displaced.sum(), moved, create_graph=True, allow_unused=True))
        norms = self._power(self.inputs.norms([b - a for a, b in zip(here, there, strict=True)]))
        term = norms.mean() if self.form.per_sample else norms.sum()
        total = self.losses.mean() + self.options.weight * term
        return total, self._outcome((displaced - base).mean(), term, [g.detach() for g in here], lengths)

    def _base(self) -> Tensor:
        """Return the losses the term starts from: the loop's own, or those of the mode ``norm_stats`` asks for."""
        return self.at(self.inputs.tensors) if self.options.norm_stats == "running" else self.losses

    def _gradients(self, base: Tensor) -> list[Tensor]:
        xs = self.inputs.tensors
        if any(map(is_compiled, self.modules)):
            # compiled code frees buffers it donated at the first backward, so its graph cannot be used twice
            xs = self.inputs.fresh(xs)
            return self._filled(torch.autograd.grad(self.at(xs).sum(), xs, allow_unused=True))
        return self._filled(torch.autograd.grad(base.sum(), xs, retain_graph=True, allow_unused=True))

    def _filled(self, gradients: Sequence[Tensor | None]) -> list[Tensor]:
        return filled(gradients, self.inputs.tensors)

    def _term(self, difference: Tensor) -> Tensor:
        """Return |ℓ̄⁺ − ℓ̄| or its square, of the whole batch where several processes have a part of it each."""
        if self.form.per_sample:
            return self._power(difference.abs())
        return squared(difference, self.group) if self.form.squared else absolute(difference, self.group)

    def _power(self, terms: Tensor) -> Tensor:
        return terms.square() if self.form.squared else terms

    def _outcome(self, difference: Tensor, term: Tensor, gradients: Sequence[Tensor], lengths: list[float]) -> Outcome:
        norms = self.inputs.norms(gradients)
        slope = norms.mean() if self.form.per_sample else norms.sum()
        h = sum(lengths) / len(lengths)
        kappa = curvature(difference.detach(), h * slope, h)
        return outcome_over(self.group, Outcome(self.losses.detach().mean(), term.detach(), slope, kappa))
