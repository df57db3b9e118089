"""The promises a method keeps by what it does, each checked by one function."""

from __future__ import annotations

import copy
import signal
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Final

import torch

from guard_plugins.data.distilled import DistilledSet
from guard_plugins.method import Method
from guard_plugins.networks.normalised import Normalised
from guard_plugins.pipeline.declared import rehearsed
from guard_plugins.pipeline.plugin_calls import problem_with
from guard_plugins.runtime.keeping.checkpoints import Checkpoints
from guard_plugins.runtime.keeping.keeper import Keeper
from guard_plugins.runtime.keeping.keepsakes import Keepsakes
from guard_plugins.runtime.signals import StoppedError, StopRequest
from guard_plugins.testing.promises import BrokenPromiseError, expecting
from guard_plugins.testing.tiny import TINY, TinyTask
from guard_plugins.testing.trial import Trial, run_trial

ALWAYS: Final = 0.0
NEVER: Final = 1e9
"""Cadences of saving, in seconds."""


def check_guarded(trial: Trial) -> None:
    """Check: every guarded function was called and its losses were regularised.

    Raises:
        BrokenPromiseError: If not.
    """
    for name in trial.tiny.method.guarded:
        steps = trial.regularised.get(name)
        if steps is None:
            raise BrokenPromiseError(
                "guarded",
                f"{name!r} was never called",
                f"Call it as self.{name}(...), since the host wraps it on the instance.",
            )
        if not steps:
            raise BrokenPromiseError("guarded", f"{name!r} was called, but no step in it was regularised")


def check_set(trial: Trial) -> None:
    """Check: the distilled set has the right types, shapes, labels and number of images.

    Raises:
        BrokenPromiseError: If not.
    """
    problem = problem_with(trial.distilled, trial.tiny.task, trial.tiny.method)
    if problem is not None:
        raise BrokenPromiseError("set", problem)


def check_progress(trial: Trial, *, instant: bool) -> None:
    """Check: progress was reported, unless there is no work to speak of.

    Raises:
        BrokenPromiseError: If not.
    """
    if not trial.steps and not instant:
        raise BrokenPromiseError(
            "progress",
            "distill ended without any",
            "Write the loop as `for step in task.steps(...)`; if there is no work to speak of, pass instant=True.",
        )


def check_seed(first: Trial) -> None:
    """Check: a second run under the same seed, from other states of the global streams, gives the same set.

    Raises:
        BrokenPromiseError: If not.
    """
    again = run_trial(first.tiny.having(), ambient=2)
    difference = _difference(first.distilled, again.distilled)
    if difference:
        raise BrokenPromiseError(
            "seed",
            f"{difference} differ between two runs with seed {first.tiny.task.config.seed}",
            "Draw from task.seeds.generator(...), or inside task.steps, which seeds every step.",
        )


def check_resume(first: Trial) -> None:
    """Check: a distillation stopped half-way and taken up again gives the same set.

    Raises:
        BrokenPromiseError: If not.
    """
    resumed = _resumed(first, first.steps, teacher=first.teacher)
    if resumed is None:
        return
    difference = _difference(first.distilled, resumed.distilled)
    if difference:
        raise _not_resumed(f"{difference} differ", first.steps, "images, optimiser, scheduler, what was chosen")
    if resumed.reported != first.reported:
        what = f"the reported numbers are {resumed.reported}, not {first.reported},"
        raise _not_resumed(what, first.steps, "what the numbers are computed from")


def check_teacher_resume(first: Trial) -> None:
    """Check: a teacher's training of the method's own, stopped half-way and taken up again, gives the same weights.

    Raises:
        BrokenPromiseError: If not.
    """
    if first.teacher is None or first.tiny.method.train_teacher is Method.train_teacher:
        return
    resumed = _resumed(first, first.teacher_steps, teacher=None)
    if resumed is None or resumed.teacher is None:
        return
    weights = resumed.teacher.state_dict()
    if not all(torch.equal(value, weights[name]) for name, value in first.teacher.state_dict().items()):
        raise _not_resumed("the teacher's weights differ", first.teacher_steps, "model, optimiser, scheduler")


def _resumed(first: Trial, steps: int, *, teacher: Normalised | None) -> Trial | None:
    """Return a trial that was stopped at half of ``steps`` and taken up again; None where that is not possible."""
    if steps < 2:
        return None
    with tempfile.TemporaryDirectory() as folder:
        stopping = first.tiny.having(_keeper(Path(folder), ALWAYS, _StopAfter(steps // 2)))
        try:
            run_trial(stopping, ambient=4, teacher=copy.deepcopy(teacher))
        except StoppedError:
            again = first.tiny.having(_keeper(Path(folder), NEVER, StopRequest()))
            return run_trial(again, ambient=5, teacher=copy.deepcopy(teacher))
    return None  # progress without task.steps: nothing is saved, and a resumed run begins anew


def _keeper(folder: Path, every: float, stop: StopRequest) -> Keeper:
    checkpoints = Checkpoints(folder / "checkpoints", every=every)
    return Keeper(checkpoints, stop, keepsakes=Keepsakes(folder / "files", checkpoints))


def _not_resumed(what: str, steps: int, state: str) -> BrokenPromiseError:
    return BrokenPromiseError(
        "resume", f"{what} after a stop at step {steps // 2} of {steps}",
        f"Give LoopState everything the loop changes: {state}.",
    )  # fmt: skip


def check_state(first: Trial) -> None:
    """Check: nothing around the method changed.

    Raises:
        BrokenPromiseError: If not.
    """
    if first.damage:
        raise BrokenPromiseError("state", "; ".join(first.damage), "Restore it, in a `with` or `finally`.")


def check_streams(first: Trial) -> None:
    """Check: no global random stream was seeded by the method itself.

    Raises:
        BrokenPromiseError: If not.
    """
    other = first.tiny.having(seed=first.tiny.task.config.seed + 1)
    streams = run_trial(other, ambient=3, teacher=copy.deepcopy(first.teacher)).streams
    same = [name for name, state in streams.items() if state == first.streams[name]]
    if same:
        raise BrokenPromiseError(
            "state",
            f"{' and '.join(same)} ended in the same state under two seeds: the method seeds it itself",
            "Use task.seeds.generator(...) or task.seeds.reset(...), which follow the seed of the run.",
        )


def check_errors(first: Trial) -> None:
    """Check: asked for something it may refuse, the method does not stumble.

    Raises:
        BrokenPromiseError: If not.
    """
    most = TINY["data"]["train_per_class"]
    _ask(first.tiny.having(ipc=most + 1), first, f"distill with more images per class than the {most} real ones")
    if first.teacher is not None:
        strange = first.tiny.having(teacher={"network": "convnet3"})
        _ask(strange, None, "distill with a teacher without BatchNorm")


def _ask(tiny: TinyTask, trained: Trial | None, doing: str) -> None:
    teacher = copy.deepcopy(trained.teacher) if trained else tiny.task.network(stage="teacher").eval()
    with expecting(doing, refusal_allowed=True):
        method = tiny.instance()
        method.check(tiny.task, teacher)
        known = () if teacher is None else rehearsed(tiny.task, method, teacher.requires_grad_(False))
        method.distill(replace(tiny.task, teachers=known), teacher)


def _difference(one: DistilledSet, other: DistilledSet) -> str:
    """Return the name of the part in which two sets differ, or an empty string."""
    for name in ("images", "labels", "soft_labels", "views"):
        a, b = getattr(one, name), getattr(other, name)
        if (a is None) != (b is None) or (a is not None and not torch.equal(a, b)):
            return name.replace("_", " ")
    return ""


class _StopAfter(StopRequest):
    """A stop signal that comes after a number of steps."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self._left = steps

    def check(self) -> None:
        """Count a step, whose state is saved by now, and stop at the last one."""
        self._left -= 1
        if self._left <= 0:
            raise StoppedError(signal.SIGTERM)
