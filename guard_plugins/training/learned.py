"""Settings of the students that were learned with a distilled set, and travel with it."""

from __future__ import annotations

import math
from dataclasses import replace

from guard_plugins.data.distilled import DistilledSet
from guard_plugins.runtime.task import Task
from guard_plugins.training.recipes import recipe_of


def with_learned(task: Task, distilled: DistilledSet) -> Task:
    """Return the task with the rate and the steps that a set brings in place of those of the settings.

    A method whose sets bring them says so in ``idle``, so that a user who gives others is told. Steps become the least
    number of whole passes that holds them. Stored labels are for a number of passes that was settled before, so beside
    these the set's steps are not used.

    Args:
        task: The task.
        distilled: The set the students learn from.
    """
    settings = task.config.student
    update = _learned(task, distilled)
    if not update:
        return task
    student = settings.model_copy(update=update)
    return replace(task, config=task.config.model_copy(update={"student": student}))


def said_of_learned(task: Task, distilled: DistilledSet) -> str:
    """Return in a sentence which learned settings the students used; empty where they used none."""
    update = _learned(task, distilled)
    parts = [f"a rate of {update['lr']:g}"] if "lr" in update else []
    if "epochs" in update:
        parts.append(f"{distilled.student_steps} steps ({update['epochs']} epochs)")
    return f"The students used what was learned with the images: {' and '.join(parts)}." if parts else ""


def _learned(task: Task, distilled: DistilledSet) -> dict[str, float | int]:
    settings = task.config.student
    found: dict[str, float | int] = {}
    if distilled.student_lr is not None:
        found["lr"] = distilled.student_lr
    if distilled.student_steps is not None and settings.labels == "online":
        images, size = len(distilled), recipe_of(settings, task.recipes).batch_size
        found["epochs"] = math.ceil(distilled.student_steps / (images // min(size, images)))
    return found
