"""One context of a hook: records model calls and answers the loop's backward calls."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from guard_plugins.curvature.apart import deliver_apart
from guard_plugins.curvature.one_pass import deliver_in_one_pass
from guard_plugins.curvature.operations import record_operation
from guard_plugins.curvature.options import Options
from guard_plugins.curvature.recorder import Recorder
from guard_plugins.curvature.replay import Preserved, Replay
from guard_plugins.curvature.roots import BackwardCall
from guard_plugins.curvature.selfcheck import Checkpoints, SelfCheck
from guard_plugins.curvature.step import Outcome, Step
from guard_plugins.curvature.tally import Tally
from guard_plugins.curvature.tripwires import Tripwires
from guard_plugins.curvature.wrappers import is_ddp


class Session:
    """What is alive between entering and leaving a hook; it holds no tensors of the loop itself.

    Args:
        options: The hook's settings.
        tally: The hook's counters.
        checkpoints: What the hook's self-check has seen.
    """

    def __init__(self, options: Options, tally: Tally, checkpoints: Checkpoints) -> None:
        self.options, self.tally, self._checkpoints = options, tally, checkpoints
        self.recorder = Recorder(options, lambda: options.due(tally.steps))
        self.tripwires = Tripwires(options, tally, self.recorder, self.paused)
        self.pauses = self._busy = 0
        self._thread = threading.get_ident()

    def quiet(self) -> bool:
        """Return whether this is no moment to record."""
        return (
            bool(self.pauses or self._busy)
            or threading.get_ident() != self._thread
            or torch._C._current_graph_task_id() != -1  # a checkpoint computing its forward pass again
            or torch._C._functorch.peek_interpreter_stack() is not None
        )

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

    def operation(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run ``function`` on recorded tensors and note how its results were made."""
        return record_operation(function, args, kwargs)

    def backward(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a backward call of the loop, on the regularised objective if it is a training step's.

        Raises:
            HookError: If the objective cannot be regularised faithfully.
        """
        call = BackwardCall(function, args, kwargs)
        for_weights = not call.collects or any(self.recorder.trains(t) for t in call.wanted if isinstance(t, Tensor))
        if call.plain_only or not for_weights:
            return call.passed_on()
        self.recorder.frozen.forget()
        replay = Replay(call)
        self._busy += 1
        try:
            if not replay.regularised:
                self.tripwires.reached(regularised=False)
                return call.passed_on()
            self.tripwires.reached(regularised=True)
            return self._regularised(call, replay)
        finally:
            self._busy -= 1

    def _regularised(self, call: BackwardCall, replay: Replay) -> Any:
        started = time.perf_counter()
        replay.reject_unreplayable()
        keep = Preserved(replay)
        check = SelfCheck(due=self._checkpoints.due(replay))
        step = Step(call, replay, keep, self.options, self.tally.steps, check)
        try:
            outcome = deliver_in_one_pass(step) if _in_one_pass(step) else deliver_apart(step)
        finally:
            keep.restore()
        if self.tripwires.closure_wants_objective and call.is_lone_scalar():
            _write_objective(call.roots[0], outcome, self.options.weight)
        self.tally.add(outcome, time.perf_counter() - started)
        return call.result()


def _in_one_pass(step: Step) -> bool:
    """Return whether all gradients must arrive together: a term with a graph, an onlooker, or a shared graph."""
    if step.options.penalty == "gradient" or step.options.norm_stats == "running":
        return True
    calls = step.replay.calls
    watched = any(
        p._backward_hooks or getattr(p, "_post_accumulate_grad_hooks", None) for c in calls for p in c.parameters
    )
    return watched or step.call.create or bool(step.replay.attached) or any(map(is_ddp, step.replay.modules()))


def _write_objective(root: Tensor, outcome: Outcome, weight: float) -> None:
    """Let an optimiser that reads its closure's value (LBFGS) see the objective whose gradient it got."""
    with torch._C.DisableTorchFunctionSubclass():
        root.data.copy_((outcome.loss + weight * outcome.term).reshape(root.shape))
