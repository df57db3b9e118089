"""Small tasks whose steps stand for those of a whole run, however large its distilled set is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import torch
from torch import Tensor, nn

from guard_plugins.data.base import Data
from guard_plugins.data.distilled import DistilledSet
from guard_plugins.data.validation import Subset
from guard_plugins.pipeline.planning.timing import TimedTask
from guard_plugins.pipeline.students.under_hook import under_hook
from guard_plugins.runtime.loop import LoopState
from guard_plugins.runtime.task import Task
from guard_plugins.training.recipes import recipe_of
from guard_plugins.training.student import train_students
from guard_plugins.training.student_batches import OnlineBatches, online

PIXELS: Final = 2**17
"""Pixels of a timed batch on a CPU: 128 images of 32x32, 2 of 224x224. Time per image hardly falls in larger ones."""


def timed_batch(task: Task, asked: int) -> int:
    """Return the images of a batch that is timed in place of one of ``asked``: as many on a GPU, at least 2."""
    if task.device.type != "cpu":
        return asked
    _, height, width = task.data.image_shape
    return max(2, min(asked, PIXELS // (height * width)))


def with_teacher_batch(task: TimedTask) -> TimedTask:
    """Return the task with a batch of the teacher that is timed in place of its own."""
    return _configured(task, "teacher", batch_size=timed_batch(task, task.config.teacher.batch_size))


def with_small_set(task: TimedTask) -> TimedTask:
    """Return the task with the images of few classes, and few of each, to distil."""
    whole = task.classes * task.ipc
    images = timed_batch(task, whole)
    if images >= whole:
        return task
    classes = min(task.classes, images)
    config = task.config.model_copy(update={"ipc": max(1, min(task.ipc, images // classes))})
    return replace(task, config=config, data=_first_classes(task.data, classes))


def train_on_noise(task: TimedTask, teacher: nn.Module | None) -> float:
    """Do a few steps of every kind of student; returns how many times their work the whole has.

    Args:
        task: Its loops are timed.
        teacher: Labels the images of students that learn from soft labels, unless these are stored before.
    """
    recipe, whole = recipe_of(task.config.student, task.recipes), task.classes * task.ipc
    size = min(recipe.batch_size, whole)
    small = timed_batch(task, size) if whole > 1 else 1
    sample, some = _configured(task, "student", batch_size=small), _noise(task, small)
    asked = None if task.config.student.labels == "stored" else teacher
    with under_hook(sample) as hooked:
        train_students(hooked, online(sample, some, asked), name="student")
        train_students(hooked, online(sample, some, None), name="student-hard")
    return (whole // size) * size / small


def label_noise(task: TimedTask, teacher: nn.Module) -> float:
    """Have the teacher label a few batches; returns the factor as :func:`train_on_noise` does."""
    recipe, whole = recipe_of(task.config.student, task.recipes), task.classes * task.ipc
    size = min(recipe.batch_size, whole)
    small = timed_batch(task, size) if whole > 1 else 1
    sample = _configured(task, "student", batch_size=small)
    batches = OnlineBatches(
        sample, _noise(task, small), recipe_of(sample.config.student, task.recipes), teacher, stage="relabel"
    )
    for step in sample.steps("relabel", batches.total, state=LoopState()):
        batches.batch(step.index)
    return (whole // size) * size / small


def _noise(task: Task, images: int) -> DistilledSet:
    return DistilledSet(torch.rand(images, *task.data.image_shape), torch.arange(images) % task.classes)


def _first_classes(data: Data, classes: int) -> Data:
    def part(labels: Tensor) -> Tensor:
        return torch.nonzero(labels < classes).flatten()

    train, test = (Subset(split, part(split.labels)) for split in (data.train, data.test))
    return replace(data, train=train, test=test, classes=data.classes[:classes])


def _configured(task: TimedTask, section: str, **values: Any) -> TimedTask:
    changed = getattr(task.config, section).model_copy(update=values)
    return replace(task, config=task.config.model_copy(update={section: changed}))
