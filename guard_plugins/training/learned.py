"""Settings of the students that were learned with a distilled set, and travel with it."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace

from guard_plugins.config.explain import flag
from guard_plugins.data.distilled import DistilledSet
from guard_plugins.runtime.task import Task
from guard_plugins.training.recipes import recipe_of


def with_learned(task: Task, distilled: DistilledSet, *, given: Collection[str]) -> Task:
    """Return the task with the rate and the steps that a set brings in place of those of the settings.

    Steps become the least number of whole passes that holds them. Stored labels are for a number of passes that was
    settled before, so beside these the set's steps are not used.

    Args:
        task: The task.
        distilled: The set the students learn from.
        given: Options of the section ``student`` that the user gave, which are left as they are.
    """
    settings = task.config.student
    update = {name: value for name, value in _learned(task, distilled).items() if name not in given}
    if not update:
        return task
    student = settings.model_copy(update=update)
    return replace(task, config=task.config.model_copy(update={"student": student}))


def said_of_learned(task: Task, distilled: DistilledSet, *, given: Collection[str]) -> list[str]:
    """Return in sentences which learned settings the students used and which ones gave way; none where there are none.

    Args:
        task: The task, with the settings as they were given.
        distilled: The set the students learn from.
        given: As for :func:`with_learned`.
    """
    learned = _learned(task, distilled)
    named = {"lr": f"a rate of {learned.get('lr', 0):g}", "epochs": f"{distilled.student_steps} steps"}
    used = [named[name] for name in learned if name not in given]
    if "epochs" in learned and "epochs" not in given:
        used[-1] += f" ({learned['epochs']} epochs)"
    said = [f"The students used what was learned with the images: {' and '.join(used)}."] if used else []
    for name in (name for name in learned if name in given):
        mine = getattr(task.config.student, name)
        said.append(f"{flag(('student', name))} {mine:g} was used in place of what was learned: {named[name]}.")
    return said


def _learned(task: Task, distilled: DistilledSet) -> dict[str, float | int]:
    settings = task.config.student
    found: dict[str, float | int] = {}
    if distilled.student_lr is not None:
        found["lr"] = distilled.student_lr
    if distilled.student_steps is not None and settings.labels != "stored":
        images, size = len(distilled), recipe_of(settings, task.recipes).batch_size
        found["epochs"] = math.ceil(distilled.student_steps / (images // min(size, images)))
    return found
