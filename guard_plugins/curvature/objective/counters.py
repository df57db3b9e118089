"""Counting steps, of the hook and of each model, and averaging what the hook measured."""

from __future__ import annotations

import math
import warnings
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from guard_plugins.curvature.objective.penalty import Outcome

_COUNTERS: Final = ("steps", "regularised_steps", "backwards", "seconds")
_LEAP: Final = 100.0  # a term so many times the loss is no small step any more
_FEWEST: Final = 8  # samples that distances say something of: fewer may be views of one image
_COMPARED: Final = 64  # samples of the first batch whose distances z is compared with
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

    def __str__(self) -> str:
        """Write it as a short table."""
        known = {
            "regularised steps": f"{self.regularised_steps} of {self.steps}",
            "mean loss": self.mean_loss, "mean term": self.mean_term, "mean ‖g‖": self.mean_gradient_norm,
            "mean κ": self.mean_curvature, "seconds": self.seconds,
        }  # fmt: skip
        rows = [(name, "–" if value is None else value) for name, value in known.items()]
        cells = [(name, f"{value:.4g}" if isinstance(value, float) else str(value)) for name, value in rows]
        width = max(len(text) for _, text in cells)
        return "\n".join(f"{name:<19}{text:>{width}}" for name, text in cells)


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
        self._warned: set[str] = set()
        self._compared = False
        self._pending: list[Tensor] = []
        self._last: tuple[int, Tensor] | None = None

    def add(self, outcome: Outcome, seconds: float, *, at_once: bool = False) -> None:
        """Count one regularised backward pass; look at its numbers ``at_once`` or when enough are pending."""
        parts = (outcome.loss, outcome.term, outcome.gradient_norm, outcome.curvature)
        row = torch.stack([part if part.dtype == torch.float32 else part.float() for part in parts])
        self._last = (self.steps, row)
        self._pending.append(row)
        self.backwards += 1
        self.seconds += seconds
        if at_once or len(self._pending) >= _PENDING:
            self._settle()

    def advance(self, *, regularised: bool) -> None:
        """Count one optimiser step."""
        self.steps += 1
        self.regularised_steps += regularised

    def compare(self, h: float, samples: Tensor) -> None:
        """Warn if z is longer than the samples of a first batch, shape (B, …), are apart: it leads to no data."""
        if self._compared or len(samples) < _FEWEST:
            return
        self._compared = True
        rows = samples.detach()[:_COMPARED].cpu().reshape(min(len(samples), _COMPARED), -1).float()
        apart = float(torch.nn.functional.pdist(rows).median())  # on the CPU: not every device has it
        if h > apart > 0:
            self._warn_once(
                f"h is too long for these data: z has length {h:.3g}, and two samples are {apart:.3g} apart. With "
                "pixels in [0, 1] write h_rms=16/255, not 16; hook.suggest_h(model, batches) proposes a length"
            )

    def _settle(self) -> None:
        rows, self._pending = self._pending, []
        if rows:
            table = torch.stack([row.to(rows[0].device) for row in rows]).cpu().double()
            self._sums += table.sum(0)
            self._warn(table.tolist())

    def _warn(self, rows: list[list[float]]) -> None:
        """Warn once of each thing that makes the term meaningless."""
        for loss, term, norm, _ in rows:
            if math.isfinite(loss) and not math.isfinite(norm):
                self._warn_once("the gradient with respect to the input is not finite, so z is not; look for sqrt or "
                                "norm at zero, or a loss scale that overflows")  # fmt: skip
            elif math.isfinite(loss) and (not math.isfinite(term) or term > _LEAP * abs(loss) > 0):
                self._warn_once(f"the loss leaps from {loss:.3g} by {term:.3g} along z: h is far too long for these "
                                "data; hook.suggest_h(model, batches) proposes one")  # fmt: skip

    def _warn_once(self, words: str) -> None:
        kind = words[:20]
        if kind not in self._warned:
            self._warned.add(kind)
            warnings.warn(words, RuntimeWarning, stacklevel=2)

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


class Paces:
    """How many steps each model made under a hook: ``every`` and ``ramp`` count by model, not over all of them."""

    def __init__(self) -> None:
        self._steps: weakref.WeakKeyDictionary[nn.Module, int] = weakref.WeakKeyDictionary()
        self._called: weakref.WeakSet[nn.Module] = weakref.WeakSet()
        self._loose: dict[int, tuple[weakref.ref[Tensor], nn.Module]] = {}
        self.start = 0

    def of(self, module: nn.Module) -> int:
        """Return the steps ``module`` made, and expect it to make another one."""
        self._called.add(module)
        return self._steps.setdefault(module, self.start)

    def of_weights(self, weights: Iterable[Tensor]) -> int | None:
        """Return the steps that weights without a module made, and expect another one; None where there are none."""
        found = None
        for weight in weights:
            found = found or self._standing_for(weight)
            self._note(weight, found)
        return None if found is None else self.of(found)

    def _note(self, weight: Tensor, stands: nn.Module) -> None:
        key, entries = id(weight), self._loose
        entries[key] = (weakref.ref(weight, lambda _: entries.pop(key, None)), stands)

    def advance_weights(self, weights: Iterable[Tensor]) -> None:
        """Count a step of those that stand for ``weights``."""
        self.advance({self._standing_for(weight) for weight in weights if id(weight) in self._loose})

    def _standing_for(self, weight: Tensor) -> nn.Module:
        ref, module = self._loose.get(id(weight), (None, None))
        return nn.Module() if ref is None or module is None or ref() is not weight else module

    def advance(self, modules: Iterable[nn.Module]) -> None:
        """Count a step of those of ``modules`` that were called since their latest one."""
        for module in modules:
            if module in self._called:
                self._called.discard(module)
                self._steps[module] = self._steps.get(module, self.start) + 1

    def advance_all(self) -> None:
        """Count a step of every model that was called, at the end of a context without optimiser steps."""
        self.advance(list(self._called))
