"""Evaluates a checkpoint, or students of a distilled set, outside of a run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pydantic import BaseModel

from guard_plugins._version import __version__
from guard_plugins.artifacts.evaluation import Evaluation
from guard_plugins.artifacts.ledger import fingerprint
from guard_plugins.artifacts.teacher import TeacherCard, teacher_file
from guard_plugins.config.compose import compose
from guard_plugins.config.layers import Layer
from guard_plugins.data.validation import with_validation
from guard_plugins.evaluation.assess import Assessed, assess, step_length
from guard_plugins.evaluation.protocols import Protocol, find_protocol
from guard_plugins.host import PluginHost
from guard_plugins.networks.normalised import Normalised
from guard_plugins.pipeline.standalone.checkpoint import load_checkpoint
from guard_plugins.pipeline.standalone.idle import refuse_idle
from guard_plugins.pipeline.standalone.radii import doubtful_radius
from guard_plugins.pipeline.standalone.request import EvaluationRequest
from guard_plugins.pipeline.standalone.soft_labels import images_in, stored_beside
from guard_plugins.pipeline.standalone.state_folder import kept, require_own, stamps
from guard_plugins.pipeline.standalone.students import students_of
from guard_plugins.runtime.engine import Engine, repeatable
from guard_plugins.runtime.keeping.checkpoints import Checkpoints
from guard_plugins.runtime.keeping.keeper import Keeper
from guard_plugins.runtime.monitor import Monitor
from guard_plugins.runtime.seeds import Seeds, preserved_streams
from guard_plugins.runtime.task import Task

if TYPE_CHECKING:
    from guard_plugins.config import RunConfig


class NoMethod:
    """Stands for the method where there is none, to compose a configuration with the data set's presets."""

    name: ClassVar[str] = "guard-eval"
    Config: ClassVar[type[Any]] = BaseModel
    defaults: ClassVar[Mapping[str, Any]] = {}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}


def evaluate(request: EvaluationRequest, *, keep: Path | None = None, of_card: bool = False) -> Evaluation:
    """Attack the models asked for, and put them through the gate.

    Args:
        request: What to evaluate.
        keep: Folder for the state of the evaluation while it is not finished, with which the same request goes on. It
            stays until the caller removes it, who knows when the result is safe. None keeps nothing.
        of_card: Whether a published set's card gave options, of which some may do nothing here.

    Raises:
        GuardError: If a file, name or number does not fit; or logits are not finite.
        StoppedError: If a signal asked to stop.
    """
    config, host = compose(NoMethod, [Layer("the command line", request.settings())]), PluginHost()
    if not of_card:
        refuse_idle(request, config, host)
    protocol = find_protocol(config.evaluation.protocol, host.attacks, eps=config.evaluation.eps)
    begin, notes = time.perf_counter(), list(protocol.notes)
    with preserved_streams(), repeatable(), kept(keep) as stop:
        task = _task(config, host, Keeper(Checkpoints(keep, every=config.checkpoint_every), stop))
        task.keeper.checkpoints.inputs = _inputs(request, task, without=keep)
        if keep is not None and require_own(keep, task.keeper.checkpoints.inputs):
            task.monitor.say(f"going on with the evaluation in {keep}")
        if doubt := doubtful_radius(protocol, host.attacks):
            task.monitor.say(doubt)
        if request.distilled is not None:
            subject, name = str(request.distilled), "student"
            trained = students_of(task, request.distilled, request)
            models, teacher, card, step = trained.students, trained.teacher, None, trained.step
            notes += trained.said
        else:
            assert request.checkpoint is not None
            subject = str(request.checkpoint)
            model, card = load_checkpoint(task, request.checkpoint, request.teacher)
            name = "teacher" if card else "checkpoint"  # a run's teacher is attacked from the same starts as in the run
            models, teacher, step = [model], None, None
        found = _assessed(task, host, models, card, protocol, teacher=teacher, name=name, step=step)
    return Evaluation(
        subject=subject, kind=name, dataset=task.data.name, seed=config.seed, protocol=protocol.name,
        notes=notes, guard=card.guard if card else None, model=found.report, gate=found.gate,
        curvature=found.summary(), seconds=round(time.perf_counter() - begin, 3),
    )  # fmt: skip


def _inputs(request: EvaluationRequest, task: Task, *, without: Path | None) -> str:
    """Return a fingerprint of request, versions, device, test labels and of the files that the models are made from."""
    files = [teacher_file(path) for path in (request.checkpoint, request.teacher.path) if path is not None]
    files += [path for path in (request.teacher.classes,) if path is not None]
    if request.distilled is not None:
        files += [images_in(request.distilled), *filter(None, [stored_beside(request.distilled)])]
    seen = stamps(*(path for path in files if path.exists()), without=without)
    asked = request.model_dump(mode="json", exclude={"output"})
    labels = task.data.test.labels.tolist()
    return fingerprint(__version__, torch.__version__, asked, str(task.device), labels, seen)


def _task(config: RunConfig, host: PluginHost, keeper: Keeper) -> Task:
    data = with_validation(
        host.datasets[config.dataset]().load(config.data_request()), config.data.validation_per_class
    )
    monitor = Monitor()
    for note in data.notes:
        monitor.say(f"note: {note}")
    return Task(
        config, data, Engine(config.device), Seeds(config.seed), monitor, host.networks, keeper, recipes=host.recipes,
        augmentations=host.augmentations,
    )  # fmt: skip


def _assessed(
    task: Task, host: PluginHost, models: list[Normalised], card: TeacherCard | None, protocol: Protocol, *,
    teacher: Normalised | None, name: str, step: float | None,
) -> Assessed:  # fmt: skip
    guard = (card.guard if card else None) or task.config.guard.model_dump()
    h = step_length(None if step else guard["h"], step or guard["h_rms"], task.data.image_shape)
    hooked = step is not None or (card is not None and card.guard is not None)
    return assess(task, models, protocol, host.attacks, name=name, h=h, hooked=hooked, teacher=teacher)
