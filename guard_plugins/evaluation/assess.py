"""The whole evaluation of models of one kind: accuracies, curvature and the release gate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from guard_plugins.artifacts.report import CurvatureReport, GateItem, ModelReport
from guard_plugins.attacks.pgd import PGD
from guard_plugins.evaluation.attached import attached
from guard_plugins.evaluation.curvature import Curvature, measure_curvature
from guard_plugins.evaluation.gate.examine import Subject, examine, review
from guard_plugins.evaluation.measure import Measured, attack_batch, attacked_images, averaged, measure
from guard_plugins.runtime.keeping.resumable import WorkList

if TYPE_CHECKING:
    from torch import nn

    from guard_plugins.attacks.base import Attack
    from guard_plugins.evaluation.protocols import Protocol
    from guard_plugins.runtime.keeping.checkpoints import Checkpoints
    from guard_plugins.runtime.monitor import Tracker
    from guard_plugins.runtime.task import Task

CURVATURE_IMAGES: Final = 128
"""Images curvature is measured on."""
DEFAULT_EPS: Final = 8 / 255
"""Radius of the probes if the protocol has no L-infinity attack."""


@dataclass(frozen=True, eq=False)
class Assessed:
    """What an evaluation found on models of one kind; gate and curvature are of the first model.

    Attributes:
        report: Accuracies, as mean and sd over the models.
        gate: The items of the release gate.
        curvature: Slope and curvature of the loss around test images, image by image.
    """

    report: ModelReport
    gate: list[GateItem]
    curvature: Curvature

    def summary(self) -> CurvatureReport:
        """Return the curvature as reports hold it."""
        measured = self.curvature
        columns = (measured.gradient_norm, measured.along_gradient, measured.eigenvalue)
        # Not median(), which is the lower of the two middle values: the pages' histograms have their mean.
        norm, along, eigenvalue = (float(column.quantile(0.5)) for column in columns)
        return CurvatureReport(
            h=measured.h, images=len(measured.loss), gradient_norm=norm, along_gradient=along, eigenvalue=eigenvalue
        )


def assess(
    task: Task,
    models: Sequence[nn.Module],
    protocol: Protocol,
    attacks: Mapping[str, type[Attack]],
    *,
    name: str,
    h: float,
    hooked: bool = False,
    probed: bool = True,
    source: nn.Module | None = None,
    teacher: nn.Module | None = None,
    kept: Checkpoints | None = None,
) -> Assessed:
    """Attack models of one kind and put the first through the gate.

    Args:
        task: Gives test images, settings (section ``evaluation``), seeds and progress.
        models: The models (pixels in, logits out).
        protocol: The attacks and radii; decides how deep the gate's probes go.
        attacks: The registered attacks by name.
        name: What to call the models in progress bars and seeds.
        h: L2 length in pixel units at which curvature is measured.
        hooked: Whether the models were trained under the hook at that ``h``.
        probed: Whether the gate may attack the model again; if not, it has the items that need the results only.
        source: An undefended network to transfer attacks from, if there is one.
        teacher: The network whose labels the models learned from, if there is one.
        kept: Where results of the attacks are kept, if not with the task's states.

    Raises:
        ConfigError: If an attack is not registered.
        TrainingError: If a model's logits are not finite.
        StoppedError: If the run was asked to stop.
    """
    models = [attached(model, attacked_images(task, 2)[0]) for model in models]
    apart = task if kept is None else replace(task, keeper=replace(task.keeper, checkpoints=kept))
    measured = measure(apart, models, protocol, attacks, name=name)
    report = averaged([found.report() for found in measured])
    curvature = _curvature(task, models[0], h=h, name=name)
    clean, results = measured[0].clean, measured[0].results
    if task.config.evaluation.gate == "off":
        items = []
    elif probed:
        subject = _subject(task, models[0], measured[0], protocol, source=source, teacher=teacher, name=name)
        work = WorkList(task.keeper, f"gate/{name}", read=GateItem.model_validate, write=GateItem.model_dump)
        with _watched(task, f"gate {name}", work) as progress:
            items = examine(
                subject, clean=clean, results=results, h=h, curvature=curvature if hooked else None,
                known=tuple(work.results), progress=progress,
            )  # fmt: skip
    else:
        items = review(clean=clean, results=results, classes=len(task.data.classes), images=len(task.data.test))
    return Assessed(report, items, curvature)


def step_length(h: float | None, h_rms: float | None, image_shape: Sequence[int]) -> float:
    """Return the L2 length of the hook's step in pixel units: ``h``, or h_rms · √(C·H·W).

    Args:
        h: The length itself, or None.
        h_rms: The root mean square of the step over the pixels, if there is no ``h``.
        image_shape: (C, H, W) of the images.
    """
    return h if h is not None else float(h_rms or 0.0) * math.sqrt(math.prod(image_shape))


def probe_radius(measured: Measured) -> float:
    """Return the L-infinity radius at which accuracy is nearest to half of the clean accuracy."""
    known = [result for result in measured.results if result.norm == "Linf" and result.eps]
    nearest = min(known, key=lambda result: abs(result.accuracy - measured.clean / 2), default=None)
    return DEFAULT_EPS if nearest is None else nearest.eps


@contextmanager
def _watched(task: Task, label: str, work: WorkList[GateItem]) -> Iterator[Callable[[GateItem, int, int], None]]:
    """Yield a function (item, done, total) that saves the item and shows progress; it is a safe point to stop."""
    with ExitStack() as stack:
        bars: list[Tracker] = []

        def progress(item: GateItem, done: int, total: int) -> None:
            work.add(item, last=done == total)
            if not bars:  # the number of probes is not known before
                bars.append(stack.enter_context(task.monitor.track(label, total, done=done - 1)))
            bars[0].advance()
            task.keeper.stop.check()

        yield progress


def _subject(
    task: Task,
    model: nn.Module,
    measured: Measured,
    protocol: Protocol,
    *,
    source: nn.Module | None,
    teacher: nn.Module | None,
    name: str,
) -> Subject:
    def chosen(most: int, *, last: bool) -> Subject:
        images, labels = attacked_images(task, most)
        return Subject(
            model=model, images=images, labels=labels, eps=probe_radius(measured), source=source, teacher=teacher,
            seeds=task.seeds.child("gate", name), batch_size=attack_batch(task), attack=PGD(**protocol.probe),
            spare=2 if last else 1, confirm=None if last else lambda: chosen(protocol.confirm_images, last=True),
        )  # fmt: skip

    measured_on = min(task.config.evaluation.images or len(task.data.test), len(task.data.test))
    return chosen(protocol.probe_images, last=measured_on <= protocol.probe_images)


def _curvature(task: Task, model: nn.Module, *, h: float, name: str) -> Curvature:
    images, labels = attacked_images(task, CURVATURE_IMAGES)
    size, seeds = min(64, attack_batch(task)), task.seeds.child("curvature", name)
    work = WorkList[Curvature](task.keeper, f"curvature/{name}", read=lambda values: Curvature(**values), write=vars)
    if not work.results:
        work.add(measure_curvature(model, images, labels, h=h, batch_size=size, seeds=seeds), last=True)
    return work.results[0]
