"""Times the first steps of loops and ends them early, for :mod:`guard_plugins.pipeline.planning.estimate`."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor

from guard_plugins.data.distilled import DistilledSet
from guard_plugins.runtime.loop import LoopState, Step
from guard_plugins.runtime.monitor import Monitor, Tracker
from guard_plugins.runtime.seeds import Seeds
from guard_plugins.runtime.signals import StopRequest
from guard_plugins.runtime.task import Task

TIMED: Final = 3
"""Steps of a loop that are timed, after a first one that pays for what is only done once."""
LONGEST: Final = 1.0
"""Seconds after which a loop of slow steps has been timed enough."""
BUDGET: Final = 60.0
"""Seconds after which no other kind of loop is timed."""


class EnoughError(Exception):
    """Raised in a loop that can only be left this way; its time is known by then."""


@dataclass
class Stopwatch:
    """Knows from a few steps of each kind of loop how long all steps of all loops take, and what they save.

    Loops are of one kind where their names agree before the first ``/``, as ``recover/0`` and ``recover/1`` do: only
    the first of a kind is timed, the others do no step at all.

    Attributes:
        device: Where the steps compute.
        stop: Tells when to stop.
        least: Steps to time after the first, whatever they take (the hook may act on every k-th only).
        seconds: Estimated duration of all loops so far.
        saved: Bytes of their last states.
        complete: Whether all that ran could be timed.
    """

    device: torch.device
    stop: StopRequest
    least: int = 1
    seconds: float = 0.0
    saved: int = 0
    complete: bool = True
    _kinds: dict[str, tuple[float, int]] = field(default_factory=dict)
    _begun: float = field(default_factory=time.monotonic)

    @property
    def spent(self) -> bool:
        """Whether no more time may go into the estimate."""
        return time.monotonic() - self._begun > BUDGET

    def steps(self, stage: str, total: int, state: LoopState, seeds: Seeds) -> Iterator[Step]:
        """Yield the few steps that are timed, if any, and count what all ``total`` will take.

        Raises:
            StoppedError: If the run was asked to stop.
        """
        kind = stage.split("/")[0]
        if kind not in self._kinds:
            if self.spent:
                self.complete = False
                return
            taken: list[float] = []
            last = time.monotonic()
            for index in range(total):
                seeds.reset(stage, index)
                yield Step(index)
                _wait_for(self.device)
                self.stop.check()
                taken.append(time.monotonic() - last)
                last += taken[-1]
                if self.spent or (len(taken) > self.least and (len(taken) > TIMED or sum(taken) > LONGEST)):
                    break
            timed = taken[1:] or taken
            usual = statistics.median(timed) if timed else 0.0  # another program may have delayed one of them
            self._kinds[kind] = usual, _size(state.capture())
        one, size = self._kinds[kind]
        self.seconds += one * total
        self.saved += size


class SampledMonitor(Monitor):
    """A silent monitor that leaves the loops it watches as soon as their duration is known.

    Args:
        watch: What counts it.
    """

    def __init__(self, watch: Stopwatch) -> None:
        super().__init__(quiet=True)
        self._watch = watch

    @contextlib.contextmanager
    def track(self, label: str, total: int, *, done: int = 0) -> Iterator[Tracker]:
        """Track ``total`` units until :class:`EnoughError`."""
        with super().track(label, total, done=done) as tracker:
            yield _Sampled(self._watch, tracker)


class _Sampled(Tracker):
    def __init__(self, watch: Stopwatch, tracker: Tracker) -> None:
        vars(self).update(vars(tracker))
        self._watch = watch

    def advance(self, count: int = 1) -> None:
        """Count ``count`` more units as done.

        Raises:
            EnoughError: Where the units so far tell how long all take, or no more time may go into the estimate.
            StoppedError: If the run was asked to stop.
        """
        self._watch.stop.check()
        self.done += count
        if time.monotonic() - self._start > LONGEST or self.done >= self.total or self._watch.spent:
            self._watch.seconds += (self.total - self._begun) / self._rate()
            if self.done < self.total or self._watch.spent:
                raise EnoughError


@dataclass(frozen=True)
class TimedTask(Task):
    """A task whose loops are only sampled.

    Attributes:
        watch: What times them.
    """

    watch: Stopwatch

    def steps(
        self, stage: str, total: int, *, state: LoopState, preview: Callable[[], DistilledSet] | None = None
    ) -> Iterator[Step]:
        """Yield the first steps of a loop."""
        return self.watch.steps(stage, total, state, self.seeds)

    def items(self, stage: str, count: int, make: Callable[[int], Tensor]) -> Tensor:
        """Return the items one after the other; the state of each loop goes when its item is finished."""
        before, most, parts = self.watch.saved, 0, []
        for number in range(count):
            parts.append(make(number))
            most, self.watch.saved = max(most, self.watch.saved - before), before
        self.watch.saved = before + most
        return torch.cat(parts)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _size(tree: Any) -> int:
    if isinstance(tree, Tensor):
        return tree.nbytes
    children = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, (list, tuple)) else ()
    return sum(_size(child) for child in children)
