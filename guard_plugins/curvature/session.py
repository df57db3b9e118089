"""One context of a hook: records model calls and answers the loop's backward calls."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from guard_plugins.curvature.messages import about_steps
from guard_plugins.curvature.objective.counters import Paces, Tally
from guard_plugins.curvature.objective.options import Options
from guard_plugins.curvature.objective.penalty import Outcome
from guard_plugins.curvature.record.arguments import tensors_in
from guard_plugins.curvature.record.backward_call import BackwardCall
from guard_plugins.curvature.record.graph import Lean, now
from guard_plugins.curvature.record.ledger import TensorLedger
from guard_plugins.curvature.record.listening import Listening
from guard_plugins.curvature.record.sources import Sources
from guard_plugins.curvature.record.tracing import Tracer
from guard_plugins.curvature.recorder import Recorder
from guard_plugins.curvature.replay.checks import changed_attributes, reject_unfaithful
from guard_plugins.curvature.replay.delivery import deliver
from guard_plugins.curvature.replay.module_reads import Reads
from guard_plugins.curvature.replay.preserved import Preserved
from guard_plugins.curvature.replay.regularised_pass import Pass
from guard_plugins.curvature.replay.replay import Replay
from guard_plugins.curvature.replay.selfcheck import CheckSchedule, SelfCheck
from guard_plugins.curvature.state.pytree import tensors_of
from guard_plugins.curvature.watchdog import Watchdog


class Session:
    """What is alive between entering and leaving a hook; it holds no tensors of the loop itself.

    Args:
        options: The hook's settings.
        tally: The hook's counters.
        paces: How many steps each model made.
        checkpoints: What the hook's self-check has seen.
    """

    def __init__(self, options: Options, tally: Tally, paces: Paces, checkpoints: CheckSchedule) -> None:
        self.options, self.tally, self.paces, self._checkpoints = options, tally, paces, checkpoints
        self.ledger = TensorLedger()
        self.tracer = Tracer(self.ledger)
        self.sources = Sources(self.ledger)
        self.listening = Listening(self.tracer.run, self.quiet, self._note_transform)
        self.recorder = Recorder(options, self.ledger, self.tracer, self.sources, self.listening, self._due)
        self.watchdog = Watchdog(options, tally, paces, self.recorder, self.listening, self.paused)
        self.pauses = self._busy = 0
        self._thread = threading.get_ident()

    def quiet(self) -> bool:
        """Return whether this is no moment to record."""
        return self._elsewhere() or torch._C._functorch.peek_interpreter_stack() is not None

    def _elsewhere(self) -> bool:
        """Return whether what runs now is no part of the loop's step as it is written."""
        return (
            bool(self.pauses or self._busy)
            or threading.get_ident() != self._thread
            or torch._C._current_graph_task_id() != -1  # a checkpoint computing its forward pass again
            or torch._C._get_tracing_state() is not None
        )

    def _note_transform(self, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """Note the data that a transform of ``torch.func`` computes with; its steps are not recorded."""
        if torch.is_grad_enabled() and not self._elsewhere():
            self.ledger.note_in_transform(tensors_in(args, kwargs), tensors_of(result))

    def recomputing(self) -> bool:
        """Return whether a checkpoint of the loop computes its forward pass again."""
        return bool(torch._C._current_graph_task_id() != -1)

    @contextmanager
    def listening_off(self) -> Iterator[None]:
        """Let everything in the body pass unseen."""
        self.pauses += 1
        try:
            yield
        finally:
            self.pauses -= 1

    def paused(self) -> bool:
        """Return whether optimiser steps are none of the hook's business: paused, or taken in another thread."""
        return bool(self.pauses) or threading.get_ident() != self._thread

    def watch(self, x: Any, *, joint: bool, unbatched: bool | None) -> Any:
        """Return ``x`` with its float tensors recorded.

        Raises:
            HookError: If there is none, or one cannot be x.
        """
        if self.quiet() or not torch.is_grad_enabled() or self.options.weight == 0:
            return x
        return self.sources.watched(x, joint=joint, by_sample=unbatched)

    def explicit(self, total: Tensor, models: list[nn.Module], *, regularised: bool) -> None:
        """Take note of an objective of the explicit form, whose backward call then needs nothing added."""
        for model in models:
            self.recorder.note_weights(model, model.parameters())
        self.watchdog.reached(regularised=regularised)
        self.ledger.mark(total, Lean(now()))

    def backward(self, call: BackwardCall) -> Any:
        """Run a backward call of the loop, on the regularised objective if it is a training step's.

        Raises:
            HookError: If the objective cannot be regularised faithfully.
        """
        self._busy += 1
        self.ledger.next_step()
        try:
            with self.listening.off(), torch.enable_grad():  # the loop may have turned gradients off by now
                return self._answered(call)
        finally:
            self._busy -= 1

    def _answered(self, call: BackwardCall) -> Any:
        if call.plain():
            return self.watchdog.unseen(call)
        replay = Replay(call, self.ledger)
        if not replay.seen:
            return self.watchdog.unseen(call)
        if not (call.accumulates or any(isinstance(t, nn.Parameter) or self.recorder.trains(t) for t in call.wanted)):
            return call.passed_on()
        number = self._number(replay)
        # whether to record a call of a model that trains was decided when it was called
        decided = not replay.watched and replay.calls and any(replay.calls[0].trainable)
        due = replay.regularised and (bool(decided) or self.options.due(number))
        if due and any(isinstance(tensor, Tensor) and not tensor.is_leaf for tensor in call.wanted):
            raise about_steps.wants_features()
        self.watchdog.reached(regularised=due)
        result = self._regularised(call, replay, number) if due else _passed_on(call, replay)
        self.watchdog.answered()
        self.ledger.settle()
        return result

    def _number(self, replay: Replay) -> int:
        """Return the step a loss belongs to: that of its first recorded model that trains, or of its other weights."""
        first = next((call.module for call in replay.calls if any(call.trainable)), None)
        if first is not None:
            return self.paces.of(first)
        steps = self.paces.of_weights(replay.weights())
        return self.tally.steps if steps is None else steps

    def _due(self, module: nn.Module) -> bool:
        trains = any(p.requires_grad for p in module.parameters())
        if trains:
            self.watchdog.called(module)
        return self.options.due(self.paces.of(module)) if trains else self.options.weight > 0

    def _regularised(self, call: BackwardCall, replay: Replay, number: int) -> Any:
        started = time.perf_counter()
        said = self.options.model is not None or self.options.input is not None
        reject_unfaithful(replay, self.ledger, said=said)
        keep = Preserved(replay.nodes)
        looked, self.ledger.looked_into = self.ledger.looked_into, False
        check = SelfCheck(self.ledger, due=self._checkpoints.due(replay) or keep.replaced or looked)
        try:
            if written := changed_attributes(replay, self.ledger):
                replay.run(replay.fresh(), keep, inside=Reads(self.ledger, replay.sources, written).inside)
            self._compare(replay)
            outcome = deliver(Pass(call, replay, keep, self.options, number, check))
        finally:
            keep.settle()
        if self.watchdog.closure_wants_objective and call.is_lone_scalar():
            _write_objective(call.roots[0], outcome, self.options.weight)
        self.tally.add(outcome, time.perf_counter() - started, at_once=check.due)
        if not (call.retain or call.create):
            replay.spend()
        return call.result()

    def _compare(self, replay: Replay) -> None:
        """Have a z noticed that will be too long, where there is one input with a row for each sample."""
        first, *more = replay.sources
        if not more and first.rows and len(first.leaf):
            samples = first.leaf
            self.tally.compare(self.options.step_length(samples.numel() // len(samples), self.options.ramp), samples)


def _passed_on(call: BackwardCall, replay: Replay) -> Any:
    result = call.passed_on()
    if call.accumulates:
        for leaf in replay.leaves():
            leaf.grad = None
    if not (call.retain or call.create):
        replay.spend()
    return result


def _write_objective(root: Tensor, outcome: Outcome, weight: float) -> None:
    """Let an optimiser that reads its closure's value (LBFGS) see the objective whose gradient it got."""
    root.data.copy_((outcome.loss + weight * outcome.term).reshape(root.shape))
