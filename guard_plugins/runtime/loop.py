"""The shape of every long loop: steps with randomness of their own, and a state that is saved between them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor

from guard_plugins.errors import ConfigError, TrainingError
from guard_plugins.runtime.checkpoints import Checkpoints
from guard_plugins.runtime.keepsakes import Keepsakes
from guard_plugins.runtime.monitor import Monitor
from guard_plugins.runtime.seeds import Seeds
from guard_plugins.runtime.sharing.helpers import Helpers
from guard_plugins.runtime.sharing.ranks import Ranks
from guard_plugins.runtime.sharing.shares import Portion, Share
from guard_plugins.runtime.sharing.team import Team
from guard_plugins.runtime.signals import StoppedError, StopRequest
from guard_plugins.runtime.state import LoopState as LoopState
from guard_plugins.runtime.state import Stateful

NUMBERS: Final = "numbers:reported"
"""Part of a saved state that holds the numbers the method has reported, where there are any."""
CHECK_EVERY: Final = 25
"""Steps between two looks at the metrics on a GPU, where each look waits for the device."""
_DIVERGED: Final = "The usual cause is a learning rate that is too high: lower it, or the weight of the curvature term."
_BEGUN_SO: Final = (
    "No step was taken before, so it is no learning rate: look for a setting of extreme size (temperature, weights, "
    "h), or for a model that was given."
)


@dataclass
class Step:
    """One step of a loop.

    Attributes:
        index: Its number, from 0.
        metrics: What :meth:`log` was given last.
    """

    index: int
    metrics: dict[str, Tensor | float] = field(default_factory=dict)

    def log(self, **metrics: Tensor | float) -> None:
        """Report numbers of this step, such as ``loss=loss``; they must be finite."""
        self.metrics = metrics


@dataclass(frozen=True)
class Keeper:
    """What keeps a loop's state safe: where it is saved, and whether the run was asked to stop.

    Attributes:
        checkpoints: Where states are saved.
        stop: Tells when to stop.
        riders: State besides the loop's own that changes with it (the curvature hook's), by name.
        keepsakes: Files and numbers of the method's own; in memory where nothing else is given.
        share: The items that this process makes; all where None.
        ranks: In the first of several processes of a run: all of them, to which items are dealt.
        helpers: In the process of a run that has some: those that make items beside it.
        team: In each of several processes that train a model together: all of them.
    """

    checkpoints: Checkpoints
    stop: StopRequest = field(default_factory=StopRequest)
    riders: Mapping[str, Stateful] = field(default_factory=dict)
    keepsakes: Keepsakes = field(default_factory=lambda: Keepsakes(None, Checkpoints(None, every=math.inf)))
    share: Share | Portion | None = None
    ranks: Ranks | None = None
    helpers: Helpers | None = None
    team: Team | None = None

    @property
    def shares(self) -> bool:
        """Whether other processes make some of the items."""
        return self.ranks is not None or self.helpers is not None

    def begin(self, loop: str, state: LoopState) -> int:
        """Take over the saved state of a loop, if there is one, and return the number of steps it has done.

        Raises:
            DamagedError: If the state is damaged or does not fit.
            GuardError: If the processes of a team do not find the same.
        """
        saved = self.checkpoints.load(loop)
        if self.team is not None:
            self.team.require_same(0 if saved is None else saved[0])
        if saved is None:
            return 0
        done, captured = saved
        try:
            self._whole(state, numbers=NUMBERS in captured).restore(captured)
        except (LookupError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            raise self.checkpoints.unusable(loop, f"{type(error).__name__}: {error}".splitlines()[0]) from error
        return done

    def after(self, loop: str, done: int, state: LoopState, *, last: bool) -> None:
        """Save the state where the cadence, the loop's end or a stop signal asks for it; of a team, the first does.

        Raises:
            StoppedError: If the run was asked to stop; the state is saved. Of a team, all end after the same step.
        """
        asked, saves = self.stop.asked, True
        if self.team is not None:  # a signal that came just now is agreed on after the next step
            number = self.team.agreed(self.stop.number)
            self.stop.number = number or self.stop.number
            asked, saves = number is not None or self.stop.error is not None, self.team.rank == 0
        ended = last and self.checkpoints.needs_end(loop)
        if saves and (ended or self.checkpoints.due or asked):
            self.keep(loop, done, state)
        if asked or self.team is None:
            self.stop.check()

    def keep(self, loop: str, done: int, state: LoopState) -> None:
        """Save the state after ``done`` steps."""
        self.checkpoints.save(loop, done, self._whole(state, numbers=bool(self.keepsakes.numbers)).capture)

    def riding(self) -> dict[str, Any]:
        """Return the state of the riders."""
        return LoopState(**self.riders).capture()

    def ride(self, captured: dict[str, Any]) -> None:
        """Take over what :meth:`riding` returned."""
        LoopState(**self.riders).restore(captured)

    def _whole(self, state: LoopState, *, numbers: bool) -> LoopState:
        beside: dict[str, Stateful] = {f"rider:{name}": rider for name, rider in self.riders.items()}
        return LoopState(**state.parts, **beside, **({NUMBERS: self.keepsakes} if numbers else {}))


@dataclass(frozen=True)
class Between:
    """Work between the steps of a loop, which changes nothing that the loop knows.

    Attributes:
        due: From the number of finished steps to whether there is any.
        do: Does it, from the same number; the loop's state is saved by then.
    """

    due: Callable[[int], bool]
    do: Callable[[int], None]


def steps(
    stage: str, total: int, *, state: LoopState, seeds: Seeds, monitor: Monitor, device: torch.device, keeper: Keeper,
    between: Between | None = None,
) -> Iterator[Step]:  # fmt: skip
    """Yield the steps of a loop, each with freshly derived global randomness, watched for numbers gone wrong.

    Args:
        stage: Name of the loop in progress bars, events, checkpoints and the seeds' path.
        total: Number of steps.
        state: Everything the loop changes; restored first where it was saved.
        seeds: Step ``i`` starts with the global random streams seeded from (seeds, stage, i).
        monitor: Where progress goes.
        device: Where the metrics live; decides how often they are looked at.
        keeper: Saves the state.
        between: Work between the steps; an interrupted one is done again before the next step.

    Raises:
        TrainingError: If a logged number is not finite.
        DamagedError: If a saved state is damaged or does not fit.
        StoppedError: If the run was asked to stop.
        ConfigError: If the process has a share of items, and the loop is not finished and none of them.
    """
    every = 1 if device.type == "cpu" else CHECK_EVERY
    start = _begun(stage, total, state, monitor, keeper)
    try:
        with monitor.track(stage, total, done=start) as progress:
            if between is not None and between.due(start):
                between.do(start)
            for index in range(start, total):
                seeds.reset(stage, index)
                step = Step(index)
                yield step
                if step.metrics and (index % every == 0 or index == total - 1):
                    progress.metrics = _finite(stage, step, total)
                    monitor.step(stage, index, progress.metrics)
                progress.advance()
                keeper.after(stage, index + 1, state, last=index == total - 1)
                if between is not None and between.due(index + 1):
                    keeper.keep(stage, index + 1, state)
                    between.do(index + 1)
    except StoppedError:  # by itself, so that whoever holds these checkpoints may go on with it
        keeper.checkpoints.free(stage)
        raise


def _begun(stage: str, total: int, state: LoopState, monitor: Monitor, keeper: Keeper) -> int:
    """Take over the saved state of a loop, and return its finished steps if this process may go on."""
    keeper.checkpoints.begin(stage)
    start = keeper.begin(stage, state)
    if start > total:
        raise keeper.checkpoints.unusable(stage, f"{start} steps are done of {total}")
    apart = start < total and keeper.team is None and not keeper.checkpoints.is_item(stage)
    if apart and keeper.ranks is not None:
        monitor.say(f"{stage} is one piece of work: the first process does it, and the others wait")
    if apart and keeper.share is not None:
        raise ConfigError(
            f"The loop {stage} is no item of its stage, so it cannot be shared (--shard)",
            seen=f"{start} of {total} steps are done", do="Let one process finish the stage: guard-run --resume RUN.",
        )  # fmt: skip
    return start


def _finite(stage: str, step: Step, total: int) -> dict[str, float]:
    values = {name: float(torch.as_tensor(value).detach()) for name, value in step.metrics.items()}
    bad = {name: value for name, value in values.items() if not math.isfinite(value)}
    if bad:
        are, numbers = ("are", "finite numbers") if len(bad) > 1 else ("is", "a finite number")
        raise TrainingError(
            f"The {' and '.join(bad)} of stage {stage!r} {are} no longer {numbers} at step {step.index + 1} of {total}",
            seen=", ".join(f"{name} = {value}" for name, value in values.items()),
            do=_DIVERGED if step.index else _BEGUN_SO,
        )
    return values
