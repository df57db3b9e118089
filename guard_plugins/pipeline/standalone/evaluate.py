"""Evaluates a checkpoint, or students of a distilled set, outside of a run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from guard_plugins._version import __version__
from guard_plugins.artifacts.evaluation import Evaluation
from guard_plugins.artifacts.formats import read_any
from guard_plugins.artifacts.ledger import fingerprint
from guard_plugins.artifacts.teacher import TeacherCard, load_teacher, teacher_file
from guard_plugins.config.compose import compose
from guard_plugins.config.layers import Layer
from guard_plugins.data.base import Data
from guard_plugins.data.validation import with_validation
from guard_plugins.errors import ConfigError
from guard_plugins.evaluation.assess import Assessed, assess, step_length
from guard_plugins.evaluation.protocols import Protocol, find_protocol
from guard_plugins.host import PluginHost
from guard_plugins.method import Method
from guard_plugins.networks.normalised import Normalised, build_normalised
from guard_plugins.pipeline.standalone.consistency import data_options, require_data, require_own_word
from guard_plugins.pipeline.standalone.soft_labels import batches_of, images_in, require_one_run, stored_beside
from guard_plugins.pipeline.standalone.state_folder import kept, require_own, stamps
from guard_plugins.pipeline.standalone.weights import card_of, fill, read_weights
from guard_plugins.runtime.checkpoints import Checkpoints
from guard_plugins.runtime.engine import Engine, repeatable
from guard_plugins.runtime.loop import Keeper
from guard_plugins.runtime.monitor import Monitor
from guard_plugins.runtime.seeds import Seeds, preserved_streams
from guard_plugins.runtime.task import Task
from guard_plugins.training.student import train_students

if TYPE_CHECKING:
    from guard_plugins.config import RunConfig
    from guard_plugins.data.distilled import DistilledSet


class _NoMethod(Method):
    """Stands for the method where there is none, to compose a configuration with the data set's presets."""

    name = "guard-eval"

    def distill(self, task: Task, teacher: Normalised | None) -> DistilledSet:
        """Refuse: nothing is distilled in an evaluation."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class EvaluationRequest:
    """What to evaluate.

    Attributes:
        checkpoint: File of weights, or None.
        distilled: Folder of a distilled set to train students on, or None.
        teacher: A teacher.safetensors whose labels the students learn from, or None.
        labels: What they learn from without a teacher: hard labels, or the soft ones that came with the set.
        arch: Architecture of a checkpoint that does not say it itself.
        activation: Its activation function; ReLU where None.
        mean: Per-channel mean it normalises with; the data set's where None.
        std: Per-channel standard deviation, likewise.
        settings: Of the configuration, nested as in a run's.
    """

    checkpoint: Path | None = None
    distilled: Path | None = None
    teacher: Path | None = None
    labels: Literal["hard", "stored"] = "hard"
    arch: str | None = None
    activation: Any = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    settings: dict[str, Any]


def evaluate(request: EvaluationRequest, *, keep: Path | None = None) -> Evaluation:
    """Attack the models asked for, and put them through the gate.

    Args:
        request: What to evaluate.
        keep: Folder for the state of the evaluation while it is not finished, with which the same request goes on. It
            stays until the caller removes it, who knows when the result is safe. None keeps nothing.

    Raises:
        GuardError: If a file, name or number does not fit; or logits are not finite.
        StoppedError: If a signal asked to stop.
    """
    config, host = compose(_NoMethod, [Layer("the command line", request.settings)]), PluginHost()
    protocol = find_protocol(config.evaluation.protocol, host.attacks, eps=config.evaluation.eps)
    begin, notes = time.perf_counter(), list(protocol.notes)
    with preserved_streams(), repeatable(), kept(keep) as stop:
        task = _task(config, host, Keeper(Checkpoints(keep, every=config.checkpoint_every), stop))
        task.keeper.checkpoints.inputs = _inputs(request, task, without=keep)
        if keep is not None and require_own(keep, task.keeper.checkpoints.inputs):
            task.monitor.say(f"going on with the evaluation in {keep}")
        if request.distilled is not None:
            subject, name = str(request.distilled), "student"
            models, teacher, said = _students(task, request, request.distilled)
            notes, card = [*notes, said], None
        else:
            assert request.checkpoint is not None
            subject = str(request.checkpoint)
            model, card = _checkpoint(task, request, request.checkpoint)
            name = "teacher" if card else "checkpoint"  # a run's teacher is attacked from the same starts as in the run
            models, teacher = [model], None
        found = _assessed(task, host, models, card, protocol, teacher=teacher, name=name)
    return Evaluation(
        subject=subject, kind=name, dataset=task.data.name, seed=config.seed, protocol=protocol.name,
        notes=notes, guard=card.guard if card else None, model=found.report, gate=found.gate,
        curvature=found.summary(), seconds=round(time.perf_counter() - begin, 3),
    )  # fmt: skip


def _inputs(request: EvaluationRequest, task: Task, *, without: Path | None) -> str:
    """Return a fingerprint of request, versions, device, test labels and of the files that the models are made from."""
    files = [teacher_file(path) for path in (request.checkpoint, request.teacher) if path is not None]
    if request.distilled is not None:
        files += [images_in(request.distilled), *filter(None, [stored_beside(request.distilled)])]
    seen = stamps(*(path for path in files if path.exists()), without=without)
    labels = task.data.test.labels.tolist()
    return fingerprint(__version__, torch.__version__, vars(request), str(task.device), labels, seen)


def _task(config: RunConfig, host: PluginHost, keeper: Keeper) -> Task:
    data = with_validation(
        host.datasets[config.dataset]().load(config.data_request()), config.data.validation_per_class
    )
    return Task(config, data, Engine(config.device), Seeds(config.seed), Monitor(), host.networks, keeper)


def _assessed(
    task: Task, host: PluginHost, models: list[Normalised], card: TeacherCard | None, protocol: Protocol, *,
    teacher: Normalised | None, name: str,
) -> Assessed:  # fmt: skip
    guard = (card.guard if card else None) or task.config.guard.model_dump()
    h = step_length(guard["h"], guard["h_rms"], task.data.image_shape)
    hooked = card is not None and card.guard is not None
    return assess(task, models, protocol, host.attacks, name=name, h=h, hooked=hooked, teacher=teacher)


def _checkpoint(task: Task, request: EvaluationRequest, path: Path) -> tuple[Normalised, TeacherCard | None]:
    path = teacher_file(path)
    card = card_of(path)
    if card is not None:
        words = ("arch", "activation", "mean", "std")
        require_own_word(path, card, {name: getattr(request, name) for name in words})
        require_data(path, card, task.data)
        model = build_normalised(task.networks[card.network](), task.data, activation=_activation(card))
        load_teacher(path, model, card)
    elif request.arch is None:
        raise ConfigError(
            f"{path} does not say which network its weights belong to",
            seen="only the teacher.safetensors of a run says it",
            do="Name it with --arch (guard-plugins --check lists the names), and give --mean and --std.",
        )
    else:
        data = replace(task.data, mean=_per_channel(request.mean, task.data.mean, task.data, "--mean"),
                       std=_per_channel(request.std, task.data.std, task.data, "--std"))  # fmt: skip
        model = build_normalised(task.networks[request.arch](), data, activation=request.activation or "relu")
        fill(model, read_weights(path), path)
    return task.engine.placed(model).eval().requires_grad_(False), card


def _students(task: Task, request: EvaluationRequest, path: Path) -> tuple[list[Normalised], Normalised | None, str]:
    """Return students, their teacher where there is one, and a sentence on what they learned from."""
    distilled, teacher = _fitting(_distilled(path, task.data), task.data, path), None
    if request.teacher is not None:
        teacher, _ = _checkpoint(task, request, request.teacher)
    epochs = request.settings.get("student", {}).get("epochs")
    batches, said = batches_of(task, distilled, path, labels=request.labels, teacher=teacher, epochs=epochs)
    return train_students(task, batches, name="student"), teacher, said


def _distilled(path: Path, data: Data) -> DistilledSet:
    """Return the distilled set of a run, of its ``distilled`` folder, or of any other format the project reads."""
    if not path.exists():
        raise ConfigError(
            f"There is no distilled set {path} (--distilled)", do="Give a run, or a folder or file of distilled images."
        )
    require_one_run(path)
    return read_any(images_in(path), mean=data.mean, std=data.std)


def _fitting(distilled: DistilledSet, data: Data, path: Path) -> DistilledSet:
    shape, classes = tuple(distilled.images.shape[1:]), int(distilled.labels.max()) + 1
    if shape != data.image_shape or classes > len(data.classes):
        raise ConfigError(
            f"The distilled set {path} does not fit the data set {data.name!r} (--dataset)",
            seen=f"images {shape} of {classes} classes; the data set has {data.image_shape} and {len(data.classes)}",
            do=f"Give {data_options(images_in(path).parent)}.",
        )
    return distilled


def _activation(card: TeacherCard) -> Any:
    return card.activation


def _per_channel(given: Sequence[float] | None, known: tuple[float, ...], data: Data, flag: str) -> tuple[float, ...]:
    if given is None:
        return known
    if len(given) not in (1, len(known)) or (flag == "--std" and min(given) <= 0):
        raise ConfigError(
            f"{flag} needs one number, or one for each of the {len(known)} channels of {data.name!r}",
            seen=" ".join(map(str, given)),
            do="Give them for pixels in [0, 1]; standard deviations are above 0." if flag == "--std"
            else "Give them for pixels in [0, 1].",
        )  # fmt: skip
    return tuple(given) * len(known) if len(given) == 1 else tuple(given)
