"""The shape of every long loop: steps with randomness of their own, and a state that is saved between them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor

from guard_plugins.errors import ConfigError, TrainingError
from guard_plugins.runtime.keeping.keeper import Keeper
from guard_plugins.runtime.keeping.state import LoopState as LoopState
from guard_plugins.runtime.monitor import Monitor
from guard_plugins.runtime.seeds import Seeds
from guard_plugins.runtime.signals import StoppedError

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
