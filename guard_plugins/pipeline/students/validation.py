"""``--distill.validate-every``: students on held-out training images while the method is still at work.

Nothing of the distillation changes: a validation has weights, teachers and random streams of its own.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

import torch
from torch import nn

from guard_plugins.artifacts.formatting import percent, radius
from guard_plugins.artifacts.parts import Validation
from guard_plugins.attacks.pgd import PGD
from guard_plugins.config import RunConfig
from guard_plugins.data.distilled import DistilledSet
from guard_plugins.errors import ConfigError
from guard_plugins.evaluation.accuracy import attack_accuracy
from guard_plugins.evaluation.measure import attack_batch, attacked_images
from guard_plugins.evaluation.protocols import Protocol
from guard_plugins.pipeline.context import RunContext
from guard_plugins.pipeline.declared import task_for
from guard_plugins.pipeline.plugin_calls import calling, checked_set
from guard_plugins.pipeline.students.labels import labelled
from guard_plugins.runtime.keeping.keeper import Keeper
from guard_plugins.runtime.keeping.resumable import WorkList
from guard_plugins.runtime.loop import Between
from guard_plugins.runtime.monitor import Monitor
from guard_plugins.runtime.seeds import preserved_streams
from guard_plugins.runtime.task import Task
from guard_plugins.runtime.teachers import MeanTeacher, TrainedTeacher
from guard_plugins.training.learned import with_learned
from guard_plugins.training.student import train_student

LOOP: Final = "validation"
"""Name of the students' loop. All have it, so that they differ in the images alone: not in weights or batches."""
RADIUS: Final = 4 / 255
"""Radius of the attack where the protocol has none in L∞."""


def require_one_process(config: RunConfig) -> None:
    """Refuse to validate a distillation that several processes share.

    Raises:
        ConfigError: If the run validates.
    """
    if config.distill.validate_every is not None:
        raise ConfigError(
            "--distill.validate-every follows the loops of one process, but several share this distillation",
            do="Let one process distil, or leave the option out (validate_every: null in the run's config.yaml).",
        )


class Validator:
    """Trains a student on what a method has so far, and attacks it on held-out training images.

    Attributes:
        results: What was found, in the order of the steps.

    Args:
        run: A run whose data have held-out training images in place of test images, its teachers trained.

    Raises:
        DamagedError: If what an earlier process saved is damaged.
    """

    def __init__(self, run: RunContext) -> None:
        self._run = run
        self._list = WorkList(
            run.task.keeper, "validations", read=Validation.model_validate, write=lambda found: found.model_dump()
        )
        with preserved_streams():
            self._teacher = _labeller(run)

    @property
    def results(self) -> list[Validation]:
        """What was found so far."""
        return [*self._list.results]

    def __call__(self, loop: str, total: int, preview: Callable[[], DistilledSet]) -> Between:
        """Return what is done between the steps of a loop.

        Args:
            loop: Name of the loop.
            total: Number of its steps.
            preview: Returns the method's present images.
        """
        every = self._run.config.distill.validate_every
        assert every is not None
        known = {found.step for found in self.results if found.loop == loop}

        def due(done: int) -> bool:
            return done > 0 and (done % every == 0 or done == total) and done not in known

        return Between(due, lambda done: self._validate(loop, done, total, preview))

    def _validate(self, loop: str, done: int, total: int, preview: Callable[[], DistilledSet]) -> None:
        run, begun = self._run, time.perf_counter()
        with _aside(run):
            with calling(run.prepared.plugin, "preview", run=run.folder.path):
                distilled = checked_set(run.prepared.plugin, preview(), run.task, source="preview", whole=False)
            found = self._measured(distilled, loop, done, total)
        found = found.model_copy(update={"seconds": round(time.perf_counter() - begun, 3)})
        run.checkpoints.drop(LOOP)  # before the result is kept, so that no other validation goes on from it
        self._list.add(found, last=True)
        run.task.monitor.event("validation", **found.model_dump())
        run.task.monitor.say(sentence(found))

    def _measured(self, distilled: DistilledSet, loop: str, done: int, total: int) -> Validation:
        run = self._run
        quiet = replace(run.task, monitor=Monitor(quiet=True), keeper=Keeper(run.checkpoints, run.task.keeper.stop))
        task = with_learned(quiet, distilled, given=run.given_of_students())
        student = train_student(task, labelled(run, task, distilled, self._teacher)(LOOP), stage=LOOP)
        images, labels = attacked_images(task)
        result = attack_accuracy(
            student, PGD(steps=20), images, labels, eps=middle_radius(run.prepared.protocol, run),
            batch_size=attack_batch(task), seeds=task.seeds.child(LOOP),
        )  # fmt: skip
        return Validation(
            loop=loop, step=done, steps=total, distilled=len(distilled.labels), images=result.images,
            clean=result.attacked / result.images, attack=result.attack, eps=result.eps, robust=result.accuracy,
            seconds=0.0,
        )  # fmt: skip


def sentence(found: Validation) -> str:
    """Return a result in words."""
    return (
        f"validation after {found.step} of {found.steps} steps of {found.loop}: {percent(found.clean)} % clean, "
        f"{percent(found.robust)} % under {found.attack} at {radius(found.eps, 'Linf')} "
        f"({found.images} held-out images, {found.seconds:.1f} s)"
    )


def middle_radius(protocol: Protocol, run: RunContext) -> float:
    """Return the radius in the middle of a protocol's L∞ radii, the smaller of two; :data:`RADIUS` where it has none.

    Args:
        protocol: The run's.
        run: Knows the attacks.
    """
    built = protocol.build(run.prepared.host.attacks)
    radii = sorted({eps for attack, several in built for eps in several if attack.norm == "Linf" and eps})
    return radii[(len(radii) - 1) // 2] if radii else RADIUS


def _labeller(run: RunContext) -> nn.Module | None:
    """Return a copy of who labels for the students: the method may have hooks on its teachers while it works."""
    if run.labels not in ("soft", "mean"):
        return None
    known = run.results.teachers if run.labels == "mean" else run.results.teachers[:1]
    copies = [_copy(run.task, teacher) for teacher in known]
    return MeanTeacher(copies).eval() if run.labels == "mean" else copies[0]


def _copy(task: Task, teacher: TrainedTeacher) -> nn.Module:
    fresh = task_for(task, teacher.spec).network(stage=LOOP)
    fresh.load_state_dict(teacher.model.state_dict())
    return fresh.eval().requires_grad_(False)


@contextlib.contextmanager
def _aside(run: RunContext) -> Iterator[None]:
    """Do something whose random numbers, gradient mode, precision and backward calls are no business of the method."""
    hook, kind = run.prepared.hook, run.task.device.type
    paused = contextlib.nullcontext() if hook is None else hook.paused()
    plain = torch.inference_mode(False), torch.enable_grad(), torch.autocast(kind, enabled=False)
    with preserved_streams(), paused, plain[0], plain[1], plain[2]:
        yield
