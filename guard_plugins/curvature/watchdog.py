"""Noticing gradients the hook did not make, at every optimiser step and at the end."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from guard_plugins.curvature.messages import about_steps
from guard_plugins.curvature.objective.counters import Paces, Tally
from guard_plugins.curvature.objective.options import Options
from guard_plugins.curvature.record.backward_call import BackwardCall
from guard_plugins.curvature.record.listening import Listening
from guard_plugins.curvature.recorder import Recorder
from guard_plugins.curvature.state.leaves import leaves_reached
from guard_plugins.curvature.strays import Strays

_SAMPLED: Final = 1024  # numbers of a weight that are compared
_MANY: Final = 8  # more changes than a loop makes before the first step of its optimiser, as SAM and clipping do


class _HandSteps:
    """Notices weights that changed between two calls of a model, although no optimiser stepped."""

    def __init__(self) -> None:
        self._seen: weakref.WeakKeyDictionary[nn.Module, tuple[list[tuple[int, int]], Tensor]] = (
            weakref.WeakKeyDictionary()
        )

    def changed(self, module: nn.Module) -> bool:
        """Return whether the weights of a module differ from those at the call of this method before."""
        weights = [weight for weight in module.parameters() if weight.requires_grad]
        if not weights or any(map(is_lazy, weights)):
            return False
        before = self._seen.get(module)
        # Writing through ``.data`` leaves no trace but the numbers; some of one tensor have to do.
        some = weights[-1].detach().reshape(-1)[:_SAMPLED].clone()
        written = [(id(weight), weight._version) for weight in weights]
        self._seen[module] = (written, some)
        if before is None or (before[1].device, before[1].dtype) != (some.device, some.dtype):
            return False
        return before[0] != written or not torch.equal(before[1], some)


class Watchdog:
    """Watches optimiser steps, and counts them.

    Args:
        options: The hook's settings.
        tally: The hook's counters.
        paces: How many steps each model made.
        recorder: Knows which weights belong to recorded models.
        listening: Hears the loop's operations; not those of an optimiser.
        paused: Whether steps are none of the hook's business now.

    Attributes:
        closure_wants_objective: Whether the step under way reads the value its closure returns.
    """

    def __init__(
        self,
        options: Options,
        tally: Tally,
        paces: Paces,
        recorder: Recorder,
        listening: Listening,
        paused: Callable[[], bool],
    ) -> None:
        self._options, self._tally, self._paces, self._recorder = options, tally, paces, recorder
        self._listening, self._paused = listening, paused
        self._backwards = self._counted = self._steps = 0
        self._regularised = self._off_for_step = self._stepping = False
        self._hand_steps = 0
        self._strays, self._by_hand = Strays(), _HandSteps()
        self._seen: weakref.WeakKeyDictionary[Optimizer, int] = weakref.WeakKeyDictionary()
        self.closure_wants_objective = False
        self._handles: list[torch.utils.hooks.RemovableHandle] = []

    def set(self) -> None:
        """Start watching."""
        self._handles = [
            register_optimizer_step_pre_hook(self._before_step),
            register_optimizer_step_post_hook(self._after_step),
        ]

    def remove(self) -> None:
        """Stop watching."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def reached(self, *, regularised: bool) -> None:
        """Note a backward call of the loop that the hook answers."""
        self._backwards += 1
        self._regularised |= regularised
        self._strays.settle()

    def called(self, module: nn.Module) -> None:
        """Note a step that the loop made by hand before this call of a model, where no optimiser makes any.

        Raises:
            HookError: If there are many, and which of them are regularised or how much depends on their number.
        """
        if self._steps or self._stepping or not self._by_hand.changed(module) or self._backwards <= self._counted:
            return
        self._counted = self._backwards
        self._hand_steps += 1
        if self._hand_steps >= _MANY and (self._options.ramp or self._options.every > 1):
            raise about_steps.steps_by_hand(self._hand_steps)

    def answered(self) -> None:
        """Note that its gradients were delivered."""
        self._strays.refresh()

    def unseen(self, call: BackwardCall) -> Any:
        """Run a backward call on tensors that are not recorded, and note where its gradients went.

        Raises:
            HookError: If it hands out gradients of weights, which no optimiser step could be stopped from using.
        """
        what = _described(call.roots) + (", with is_grads_batched=True," if call.batched() else "")
        if not call.accumulates:
            if any(self._guards(t) for t in call.wanted if isinstance(t, Tensor)):
                raise about_steps.unseen_gradient(what)
            return call.passed_on()
        leaves = [t for t in call.wanted if isinstance(t, Tensor)] or leaves_reached(call.roots)[0]
        self._strays.settle()
        result = call.passed_on()
        self._strays.note(leaves, what)
        return result

    def finish(self) -> None:
        """Count the step of a context that made none, and complain if the hook was never reached.

        Raises:
            HookError: If no backward call came through.
        """
        resumed, self._tally.resumed = self._tally.resumed, False
        if not self._backwards and self._options.weight > 0 and not resumed:
            raise about_steps.never_fired(self.seen())
        if not self._steps and self._backwards:
            for _ in range(self._hand_steps):
                self._tally.advance(regularised=self._options.weight > 0)
            if self._backwards > self._counted or not self._hand_steps:
                self._advance()
            self._paces.advance_all()

    def seen(self) -> str:
        """Return the facts an error message quotes."""
        skipped = "; ".join(f"{name}: {why}" for name, why in self._recorder.skipped.items()) or "none"
        return (
            f"{self._recorder.calls} model calls recorded, {self._backwards} backward calls on their results, "
            f"{self._steps} optimiser steps; modules passed over: {skipped}"
        )

    def _before_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._paused():
            return
        self._stepping = True  # with a closure it changes weights before it ends
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        self.closure_wants_objective = closure is not None and isinstance(optimizer, torch.optim.LBFGS)
        if closure is None:
            with self._listening.off():
                self._require_reached(optimizer)
            self._off_for_step = self._listening.pause()

    def _after_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._stepping = False
        if self._paused():
            return
        self._off_for_step = self._listening.pause() or self._off_for_step
        try:
            self._count_step(optimizer)
        finally:
            if self._off_for_step:
                self._off_for_step = False
                self._listening.start()

    def _count_step(self, optimizer: Optimizer) -> None:
        self.closure_wants_objective = False
        self._require_reached(optimizer)
        self._seen[optimizer] = self._backwards
        self._steps += 1
        self._by_hand = _HandSteps()
        if self._backwards > self._counted or self._options.weight == 0:
            self._advance()
        self._paces.advance(self._recorder.owners(_weights(optimizer)))
        self._paces.advance_weights(_weights(optimizer))

    def _advance(self) -> None:
        self._counted = self._backwards
        self._tally.advance(regularised=self._regularised)
        self._regularised = False

    def _require_reached(self, optimizer: Optimizer) -> None:
        if self._options.weight == 0:
            return
        left = self._strays.among(w for w in _weights(optimizer) if self._options.model is None or self._guards(w))
        if left:
            raise about_steps.unseen_gradients(left[0], len(left), self.seen())
        if self._backwards <= self._seen.get(optimizer, 0) and self._concerns(optimizer):
            raise about_steps.step_unreached(self.seen())

    def _guards(self, weight: Tensor) -> bool:
        """Return whether ``weight`` belongs to a model whose gradients the hook answers for."""
        if self._options.model is not None:
            return any(weight is p for p in self._options.model.parameters())
        return self._recorder.trains(weight)

    def _concerns(self, optimizer: Optimizer) -> bool:
        """Return whether the optimiser steps weights the hook should have reached, with gradients in them."""
        weights = [p for p in _weights(optimizer) if p.grad is not None]
        if self._options.model is not None:
            own = {id(p) for p in self._options.model.parameters()}
            return any(id(p) in own for p in weights)
        known = any(self._recorder.trains(p) for p in weights)
        return known or (bool(weights) and not self._backwards)


def _weights(optimizer: Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _described(roots: tuple[Any, ...]) -> str:
    root = roots[0]
    if not isinstance(root, Tensor):
        return "an edge of the autograd graph"
    made = "" if root.grad_fn is None else f" made by {root.grad_fn.name().removesuffix('0')}"
    return f"a tensor of shape {tuple(root.shape)}{made}"
