"""What a new run will take: every stage does a few timed steps on networks that are thrown away."""

from __future__ import annotations

import contextlib
import math
import resource
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import torch

from guard_plugins.artifacts.sets.streamed import HELD
from guard_plugins.errors import ArtifactError, GuardError
from guard_plugins.labels.relabel import bytes_needed, layout_of
from guard_plugins.method import Method
from guard_plugins.networks.normalised import Normalised
from guard_plugins.pipeline.declared import rehearsed, task_for
from guard_plugins.pipeline.planning.samples import label_noise, train_on_noise, with_small_set, with_teacher_batch
from guard_plugins.pipeline.planning.timing import EnoughError, SampledMonitor, Stopwatch, TimedTask
from guard_plugins.runtime.engine import Engine
from guard_plugins.runtime.keeping.checkpoints import Checkpoints
from guard_plugins.runtime.keeping.keeper import Keeper
from guard_plugins.runtime.memory import memory_asked_by, out_of_memory
from guard_plugins.runtime.seeds import preserved_streams
from guard_plugins.runtime.signals import StoppedError
from guard_plugins.runtime.task import Task
from guard_plugins.runtime.work import volume

LONG: Final = 120.0
"""Estimated seconds from which a run is worth a line about it."""
VERY_LONG: Final = 900.0
"""Estimated seconds from which it is said what would take less."""


@dataclass
class Estimate:
    """What a run will take, without its evaluation.

    Attributes:
        seconds: By stage; a lower bound for a stage that could not be timed to its end.
        disk: Bytes of the files that will be written, as far as they are known.
        memory: Peak in bytes: of the process, and of the GPU where there is one, with the batches that were timed and
            the pictures that students learn from.
        complete: Whether everything could be timed; otherwise time and disk are lower bounds.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    disk: int = 0
    memory: dict[str, int] = field(default_factory=dict)
    complete: bool = True

    def sentence(self) -> str:
        """Return the estimate in words."""
        stages = ", ".join(
            f"{name} {duration(seconds) if seconds or self.complete else 'not timed'}"
            for name, seconds in self.seconds.items()
        )
        memory = ", ".join(f"{size / 2**30:.1f} GiB{where}" for where, size in self.memory.items())
        return (
            f"estimate{'' if self.complete else ' (at least)'}, from a few timed steps: {stages}, then the attacks; "
            f"memory {memory}; disk {self.disk / 1e6:.0f} MB"
        )

    def shorter(self) -> str:
        """Return what would take less time, where the run takes long; else nothing."""
        if sum(self.seconds.values()) < VERY_LONG:
            return ""
        options = {"teacher": "--teacher.epochs", "teachers": "--teacher.epochs", "students": "--student.epochs"}
        longest = max(self.seconds, key=self.seconds.__getitem__)
        lower = f"lower {options[longest]}" if longest in options else "fewer steps of the method (see its --help)"
        return (
            f"less time: {lower}, or smaller images (--data.image-size); --stop-after distill makes the images alone; "
            "--plan tries settings without running them"
        )

    def require_room(self, folder: Path) -> None:
        """Return if the disk holds what is known to be written.

        Raises:
            ArtifactError: If it does not.
        """
        free = shutil.disk_usage(folder).free
        if free < self.disk:
            raise ArtifactError(
                f"The disk of {folder} has no room for this run (--output)",
                seen=f"{free / 1e6:.0f} MB are free; images, weights and checkpoints take about {self.disk / 1e6:.0f}",
                do="Free some disk space, choose another folder with --output, or lower --ipc.",
            )


def estimate_run(task: Task, method: Method) -> Estimate:
    """Return what the stages of a run will take.

    The method's own functions run on networks and images that are thrown away; every kind of loop does a few steps.
    Functions of a method that is not ``rehearsable`` are not called, and the estimate is a lower bound. Random streams,
    ``task`` and its networks are left as found.

    Args:
        task: The run's.
        method: An instance of its own, under a hook of its own, since both count what they did.

    Raises:
        TrainingError: If there is not enough memory for a stage.
        StoppedError: If the run was asked to stop.
    """
    watch = Stopwatch(task.device, task.keeper.stop)
    timed = TimedTask(
        task.config, task.data, Engine(task.config.device), task.seeds, SampledMonitor(watch), task.networks,
        Keeper(Checkpoints(None, every=math.inf), task.keeper.stop), watch, recipes=task.recipes,
        augmentations=task.augmentations,
    )  # fmt: skip
    estimate, model = Estimate(), None
    with preserved_streams():
        if method.uses_teacher:
            model = timed.network(stage="teacher")
            if not task.config.teacher.path:
                _teacher(estimate, timed, method, model)
            model.eval().requires_grad_(False)
            estimate.disk += sum(tensor.nbytes for tensor in model.state_dict().values())
        _distill(estimate, timed, method)
        asked = method.labels in ("soft", "mean") and task.config.student.labels != "own"
        soft = model if asked else None
        if soft is not None and task.config.student.labels == "stored":
            with _part(estimate, watch, "relabel", "--student.batch-size") as part:
                part.factor = label_noise(timed, soft)
        with _part(estimate, watch, "students", "--student.batch-size") as part:
            part.factor = train_on_noise(timed, soft)
    pixels = task.classes * task.ipc * math.prod(task.data.image_shape)
    estimate.disk += watch.saved + 5 * pixels  # float32 and the 8 bits of the PNGs
    estimate.disk += 8 * pixels if 4 * pixels > HELD else 4 * pixels  # finished items, and the file that joins them
    if task.config.student.labels == "stored":
        layout = layout_of(task)
        estimate.disk += bytes_needed(layout, layout.epochs)
    estimate.memory = _peaks(task.device)
    estimate.memory[""] += pixels
    estimate.complete = estimate.complete and watch.complete
    return estimate


def _teacher(estimate: Estimate, timed: TimedTask, method: Method, model: Normalised) -> None:
    watch = timed.watch
    # The hook may act on every k-th step only.
    watch.least = timed.config.guard.every if timed.config.guarded else 1
    with _part(estimate, watch, "teacher", "--teacher.batch-size"):
        _require(method.rehearsable or type(method).train_teacher is Method.train_teacher)
        sample = with_teacher_batch(timed)
        method.train_teacher(sample, model)
        for spec in tuple(method.teachers())[1:]:
            part = task_for(sample, spec)
            method.train_teacher(part, part.network(stage="teacher"))
    watch.least = 1


def _distill(estimate: Estimate, timed: TimedTask, method: Method) -> None:
    with _part(estimate, timed.watch, "distill", "the method's batch size, or --ipc") as part:
        _require(method.rehearsable)
        sample = with_small_set(timed)
        part.factor = volume(method.work(timed)) / volume(method.work(sample))
        model = sample.network(stage="teacher") if method.uses_teacher else None
        if model is None:
            method.distill(sample, None)
        else:
            known = rehearsed(sample, method, model.eval().requires_grad_(False))
            method.distill(replace(sample, teachers=known), model)


@dataclass
class _Part:
    """What a stage is of what was timed of it.

    Attributes:
        factor: The whole stage's work over the timed loops'.
    """

    factor: float = 1.0


@contextlib.contextmanager
def _part(estimate: Estimate, watch: Stopwatch, name: str, option: str) -> Iterator[_Part]:
    """Count what the body's loops take; other errors are left for the run itself to report."""
    before, part = watch.seconds, _Part()
    try:
        with memory_asked_by(option):
            yield part
    except StoppedError:
        raise
    except Exception as error:  # of a plugin, whose loops ended early
        if isinstance(error, GuardError) and out_of_memory(error.__cause__):
            raise
        estimate.complete = False
    estimate.seconds[name] = (watch.seconds - before) * part.factor


def _require(rehearsable: bool) -> None:
    if not rehearsable:
        raise EnoughError


def _peaks(device: torch.device) -> dict[str, int]:
    unit = 1 if sys.platform == "darwin" else 1024
    peaks = {"": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    if device.type == "cuda":
        peaks[" on the GPU"] = torch.cuda.max_memory_allocated(device)
    return peaks


def duration(seconds: float) -> str:
    """Return a duration in seconds, minutes or hours, whichever reads best."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
