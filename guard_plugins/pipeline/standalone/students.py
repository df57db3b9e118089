"""Students of a distilled set, outside of a run."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from guard_plugins.artifacts.formats import named_classes, read_any
from guard_plugins.data.base import Data
from guard_plugins.errors import ConfigError
from guard_plugins.networks.normalised import Normalised
from guard_plugins.pipeline.features import require_same_features, said_of_features
from guard_plugins.pipeline.standalone.checkpoint import load_checkpoint
from guard_plugins.pipeline.standalone.consistency import data_options
from guard_plugins.pipeline.standalone.request import EvaluationRequest
from guard_plugins.pipeline.standalone.soft_labels import batches_of, images_in, require_one_run, stored_beside
from guard_plugins.pipeline.students.under_hook import said_of_hook, step_of_students, under_hook
from guard_plugins.runtime.task import Task
from guard_plugins.training.learned import said_of_learned, with_learned
from guard_plugins.training.student import train_students

if TYPE_CHECKING:
    from guard_plugins.artifacts.teacher import TeacherCard
    from guard_plugins.data.distilled import DistilledSet


@dataclass(frozen=True)
class Trained:
    """Students, the teacher they learned from where there is one, and sentences on their labels and settings.

    Attributes:
        step: Length per pixel of the hook's step in their training; None where there was no hook.
    """

    students: list[Normalised]
    teacher: Normalised | None
    said: list[str]
    step: float | None


def students_of(task: Task, path: Path, request: EvaluationRequest) -> Trained:
    """Train students on a distilled set.

    Args:
        task: Gives the data set, the recipe, seeds and the device.
        path: A run, or distilled images.
        request: Says which labels they learn from.

    Raises:
        GuardError: If the set, its labels or the teacher do not fit.
    """
    distilled, teacher = _fitting(_distilled(path, task.data), task.data, path), None
    if request.teacher.path is not None:
        teacher, card = load_checkpoint(task, request.teacher.path, request.teacher)
        require_same_features(task, teacher)
        task = _with_step(task, card)
    asked = request.student.labels
    labels = asked if asked in ("stored", "own") else "hard"
    given = request.student.model_dump(exclude_unset=True)
    settled = labels == "stored" and stored_beside(path) is not None  # the passes are those that were stored
    learned = replace(distilled, student_steps=None) if settled else distilled
    config = task.config
    said = _said_of_classes(path, task.data)
    said += [*said_of_hook(config), *said_of_features(config), *said_of_learned(task, learned, given=given)]
    for line in said:
        task.monitor.say(f"note: {line}")
    task = with_learned(task, learned, given=given)
    batches, labelled = batches_of(task, distilled, path, labels=labels, teacher=teacher, given=given)  # type: ignore[arg-type]
    with under_hook(task) as hooked:
        students = train_students(hooked, batches, name="student")
    return Trained(students, teacher, [*said, labelled], step_of_students(task.config))


def _with_step(task: Task, card: TeacherCard | None) -> Task:
    """Return the task with the step of the teacher's hook for students under one, where none was given."""
    student = task.config.student
    if card is None or card.guard is None or not student.guard_weight or student.guard_h_rms is not None:
        return task
    length = card.guard["h_rms"] or card.guard["h"] / math.prod(task.data.image_shape) ** 0.5
    changed = student.model_copy(update={"guard_h_rms": length})
    return replace(task, config=task.config.model_copy(update={"student": changed}))


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


def _said_of_classes(path: Path, data: Data) -> list[str]:
    """Return a sentence where a set's classes have other names than the data's.

    Raises:
        ConfigError: If some have the same names, and a label means another class: then the order differs.
    """
    named = named_classes(images_in(path))
    other = [label for label, name in named.items() if label < len(data.classes) and name != data.classes[label]]
    if not other:
        return []
    first = f"class {other[0]}: {named[other[0]]!r} in the set, {data.classes[other[0]]!r} in the data"
    if set(named.values()).isdisjoint(data.classes):
        return [f"the classes of {path} have other names than those of {data.name!r} ({first}): their order is trusted"]
    raise ConfigError(
        f"The distilled set {path} has other classes than the data set {data.name!r} (--dataset)",
        seen=f"{first}; {len(other)} differ", do=f"Give {data_options(images_in(path).parent)}.",
    )  # fmt: skip
