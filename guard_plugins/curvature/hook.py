"""The public hook."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from torch import Tensor, nn
from torch.nn import functional as F

from guard_plugins.curvature import active_session
from guard_plugins.curvature.explicit import explicit_loss
from guard_plugins.curvature.misuse import cannot_wrap, settings_without_names
from guard_plugins.curvature.objective.counters import HookSummary, Paces, StepRecord, Tally
from guard_plugins.curvature.objective.options import NormStats, Options, Penalty
from guard_plugins.curvature.patch import Patch
from guard_plugins.curvature.replay.selfcheck import CheckSchedule
from guard_plugins.curvature.session import Session
from guard_plugins.curvature.suggest import Suggestion, suggest_h

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class CurvatureHook:
    """Keeps the curvature of the loss around each training input small, in a loop nobody edits.

    Every backward call on a loss computed from a model's output then differentiates

        ``ℓ̄(x) + weight · |ℓ̄(x + z) − ℓ̄(x)|``,   z_i = h · ∇_{x_i} ℓ̄ / ‖∇_{x_i} ℓ̄‖₂

    instead of ℓ̄(x) (GUARD, arXiv 2403.10045). As decorator, as context manager, or explicitly::

        hook = CurvatureHook(h=3.0)

        @hook
        def train(...): ...

        with hook:
            train(...)

        loss = hook.loss(model, x, lambda out: criterion(out, y))

    Args:
        h: L2 length of z, in the space of the tensor the model receives. Exactly one of ``h`` and ``h_rms``.
        h_rms: The same per element, h = h_rms · √d; carries over between resolutions.
        weight: Factor of the term; 0 leaves the loop exactly as it is.
        penalty: ``"loss"`` as above, or ``"gradient"`` for Σ_i ‖∇_{x_i} ℓ̄(x + z) − ∇_{x_i} ℓ̄(x)‖₂ (CURE).
        every: The term enters every so many optimiser steps only; ``weight`` is not rescaled.
        ramp: Optimiser steps over which h grows linearly to its value.
        model: The module whose input is x; by default the outermost module with trainable weights that is called.
        input: Which of its arguments x is: position, name, or key in a dict; needed where several are floats.
        norm_stats: ``"batch"`` evaluates the term in the mode the loop trains in; ``"running"`` evaluates it in eval
            mode, with the running statistics of normalisation layers and without dropout, as published.

    Raises:
        ConfigError: If a setting is out of range.
    """

    _session: Session | None = None
    _patch: Patch | None = None
    _entries = 0

    def __init__(
        self,
        *misplaced: object,
        h: float | None = None,
        h_rms: float | None = None,
        weight: float = 1.0,
        penalty: Penalty = "loss",
        every: int = 1,
        ramp: int = 0,
        model: nn.Module | None = None,
        input: str | int | None = None,
        norm_stats: NormStats = "batch",
    ) -> None:
        if misplaced:
            raise settings_without_names(misplaced[0])
        self.options = Options(
            h=h, h_rms=h_rms, weight=weight, penalty=penalty, every=every, ramp=ramp, model=model, input=input,
            norm_stats=norm_stats,
        )  # fmt: skip
        self._tally, self._paces, self._checkpoints = Tally(), Paces(), CheckSchedule()

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy begins with: the settings and the counters; it is active nowhere."""
        return {"options": self.options, "counters": self.state_dict()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Begin as a copy does."""
        self.options = state["options"]
        self._tally, self._paces, self._checkpoints = Tally(), Paces(), CheckSchedule()
        self.load_state_dict(state["counters"])
        self._tally.resumed = False

    def __repr__(self) -> str:
        o = self.options
        length = f"h={o.h}" if o.h is not None else f"h_rms={o.h_rms}"
        return f"CurvatureHook({length}, weight={o.weight}, penalty={o.penalty!r}, every={o.every}, ramp={o.ramp})"

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Return ``function`` run inside the hook.

        Raises:
            ConfigError: If it is no function, or one whose body would run after the hook has ended.
        """
        if (problem := cannot_wrap(function)) is not None:
            raise problem

        @functools.wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            with self:
                return function(*args, **kwargs)

        return run

    def __enter__(self) -> CurvatureHook:
        """Start regularising; entering the same hook again inside its own context changes nothing.

        Raises:
            HookError: If another hook is active.
        """
        if self._session is None:
            session = Session(self.options, self._tally, self._paces, self._checkpoints)
            active_session.occupy(session)
            self._session = session
            self._patch = Patch(session) if self.options.weight > 0 else None
            session.watchdog.set()
        self._entries += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop regularising and leave PyTorch as it was.

        Raises:
            HookError: If no exception is under way and the hook was never reached.
        """
        self._entries -= 1
        session = self._session
        if self._entries or session is None:
            return
        if self._patch is not None:
            self._patch.remove()
            self._patch = None
        session.watchdog.remove()
        active_session.vacate()
        self._session = None
        session.ledger.clear()
        if kind is None:
            session.watchdog.finish()

    def watch(self, x: T, *, joint: bool = False, unbatched: bool | None = None) -> T:
        """Return ``x`` as the tensor the term moves; everything the loop then computes from it is recorded.

        Needed where the data reach the loss by several routes (``x + net(x)``, ``net.forward(x)``, a list of images),
        or where a model receives several float tensors. What is not watched is data from then on. Outside a context,
        or where no gradient is taken, ``x`` comes back as it is.

        Args:
            x: A float tensor, or a list, tuple or dict that holds some.
            joint: Take one z over all its tensors; by default each has its own, of length h per sample.
            unbatched: Whether each tensor of a list is one sample. By default tensors of one or three dimensions are,
                and those of unequal length.

        Raises:
            HookError: If there is no such tensor, or one cannot be x.
        """
        return x if self._session is None else self._session.watch(x, joint=joint, unbatched=unbatched)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let model calls and backward calls in the body pass through unseen (attacks, auxiliary trainings)."""
        with nullcontext() if self._session is None else self._session.listening_off():
            yield

    def loss(
        self,
        model: Callable[..., object],
        x: Any,
        loss_fn: Callable[..., Tensor],
        *,
        per_sample: bool = False,
        squared: bool = False,
    ) -> Tensor:
        """Return the regularised objective at ``x``, for loops the recording forms cannot follow.

        Nothing is patched: the caller does ``hook.loss(...).backward()``. Outside a context each call counts as one
        step of ``every`` and ``ramp``.

        Args:
            model: Maps ``x`` to what ``loss_fn`` takes; buffers and attributes of all modules called in it, and random
                streams, are left as one plain call leaves them.
            x: Inputs of shape (B, …), or a list, tuple or dict that holds them; each float tensor has its own z.
            loss_fn: Maps the model's output to the mean loss of the batch, or to losses of shape (B,) if
                ``per_sample``.
            per_sample: Use the mean of the per-sample terms instead of the term of the mean.
            squared: Square the terms. Then scaling the loss no longer commutes with the penalty.

        Raises:
            ConfigError: If ``loss_fn`` returns the wrong shape, or the options do not fit the penalty.
        """
        return explicit_loss(
            self.options, self._tally, self._paces, model, x, loss_fn,
            per_sample=per_sample, squared=squared, session=self._session,
        )  # fmt: skip

    @staticmethod
    def suggest_h(
        model: Callable[[Tensor], Any],
        batches: Iterable[tuple[Tensor, Tensor]],
        loss_fn: Callable[[Any, Tensor], Tensor] = F.cross_entropy,
    ) -> Suggestion:
        """Return a length of z for these data; ``print`` it for the sentence that says how it was chosen.

        It is the longest of a few lengths along which the mean loss rises by at most a quarter of what it costs to
        exchange the samples of a batch, and no more than 8 % of the median distance between two samples.

        Args:
            model: In the state whose loss is to be kept flat; a briefly trained one says more than a fresh one.
            batches: A few pairs (x, y); the first four are used.
            loss_fn: The loss that is trained, as a mean over the batch.

        Raises:
            ConfigError: If there are fewer than two samples, or the loss does not depend on them.
        """
        return suggest_h(model, batches, loss_fn)

    @property
    def last(self) -> StepRecord | None:
        """The latest regularised backward pass, or None before the first."""
        return self._tally.last()

    def state_dict(self) -> dict[str, float | list[float]]:
        """Return the counters behind ``every``, ``ramp`` and ``summary``, for a resumed run to go on from."""
        return self._tally.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state returned by ``state_dict``."""
        self._tally.load_state_dict(state)
        self._paces.start = self._tally.steps

    def summary(self) -> HookSummary:
        """Return what the hook did so far, over all its contexts."""
        return self._tally.summary()
