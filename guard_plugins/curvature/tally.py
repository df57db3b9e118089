"""Counting steps and averaging what the hook measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import torch
from torch import Tensor

from guard_plugins.curvature.step import Outcome

_COUNTERS: Final = ("steps", "regularised_steps", "backwards", "seconds")
_PENDING: Final = 64  # outcomes kept on their device before one transfer


@dataclass(frozen=True, kw_only=True)
class HookSummary:
    """What a hook did so far; means are over regularised backward passes, None where there was none.

    Attributes:
        steps: Optimiser steps seen (or ends of contexts that made none).
        regularised_steps: Those with at least one regularised backward pass.
        backwards: Regularised backward passes.
        mean_loss: Mean of the loss as the loop passed it to backward (scaled, if the loop scales it).
        mean_term: Mean of the term before its weight.
        mean_gradient_norm: Mean of ‖g‖, the mean over samples of their gradients' L2 norm.
        mean_curvature: Mean of κ along z.
        seconds: Wall-clock time inside regularised backward calls, the loop's own share included.
    """

    steps: int
    regularised_steps: int
    backwards: int
    mean_loss: float | None
    mean_term: float | None
    mean_gradient_norm: float | None
    mean_curvature: float | None
    seconds: float


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """What the latest regularised backward pass measured; see ``HookSummary`` for the units.

    Attributes:
        step: Optimiser step, from 0.
        loss: ℓ̄(x).
        term: The term before its weight.
        gradient_norm: ‖g‖.
        curvature: κ along z.
    """

    step: int
    loss: float
    term: float
    gradient_norm: float
    curvature: float

    def scalars(self, prefix: str = "hook/") -> dict[str, float]:
        """Return the measurements by name, ready for ``log_dict`` or a loop over ``add_scalar``."""
        return {prefix + name: value for name, value in asdict(self).items() if name != "step"}


class Tally:
    """The counters of one hook; lives as long as the hook and accumulates over contexts.

    Attributes:
        steps: Optimiser steps, or ends of contexts that made none.
        regularised_steps: Those with a regularised backward pass.
        backwards: Regularised backward passes.
        seconds: Time spent in them.
        resumed: Whether the counters were taken over in the running context, whose loop may then have nothing left.
    """

    def __init__(self) -> None:
        self.steps = self.regularised_steps = self.backwards = 0
        self.seconds = 0.0
        self.resumed = False
        self._sums = torch.zeros(4, dtype=torch.float64)
        self._pending: list[Tensor] = []
        self._last: tuple[int, Tensor] | None = None

    def add(self, outcome: Outcome, seconds: float) -> None:
        """Count one regularised backward pass."""
        parts = (outcome.loss, outcome.term, outcome.gradient_norm, outcome.curvature)
        row = torch.stack([part if part.dtype == torch.float32 else part.float() for part in parts])
        self._last = (self.steps, row)
        self._pending.append(row)
        self.backwards += 1
        self.seconds += seconds
        if len(self._pending) >= _PENDING:
            self._settle()

    def advance(self, *, regularised: bool) -> None:
        """Count one optimiser step."""
        self.steps += 1
        self.regularised_steps += regularised

    def _settle(self) -> None:
        rows, self._pending = self._pending, []
        if rows:
            self._sums += torch.stack([row.to(rows[0].device) for row in rows]).cpu().double().sum(0)

    def summary(self) -> HookSummary:
        """Return the totals."""
        self._settle()
        means: list[float | None] = [None] * 4
        if self.backwards:
            means = [float(total) / self.backwards for total in self._sums]
        return HookSummary(
            steps=self.steps,
            regularised_steps=self.regularised_steps,
            backwards=self.backwards,
            mean_loss=means[0],
            mean_term=means[1],
            mean_gradient_norm=means[2],
            mean_curvature=means[3],
            seconds=self.seconds,
        )

    def state_dict(self) -> dict[str, float | list[float]]:
        """Return the counters and sums, for a resumed run to go on from."""
        self._settle()
        counters = {name: getattr(self, name) for name in _COUNTERS}
        return {**counters, "sums": self._sums.tolist()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state returned by ``state_dict``."""
        self._pending, self._last = [], None
        for name in _COUNTERS:
            setattr(self, name, state[name])
        self._sums = torch.tensor(state["sums"], dtype=torch.float64)
        self.resumed = True

    def last(self) -> StepRecord | None:
        """Return the latest regularised backward pass, or None before the first."""
        if self._last is None:
            return None
        loss, term, gradient_norm, kappa = self._last[1].tolist()
        return StepRecord(step=self._last[0], loss=loss, term=term, gradient_norm=gradient_norm, curvature=kappa)
