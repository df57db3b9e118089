"""Students under the curvature hook, where ``--student.guard-weight`` asks; their loop knows nothing of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

from guard_plugins.config import RunConfig
from guard_plugins.curvature import CurvatureHook
from guard_plugins.runtime.task import Task


@contextlib.contextmanager
def under_hook(task: Task) -> Iterator[Task]:
    """Put the hook around the training of students, and yield their task, whose checkpoints hold the hook's state.

    Args:
        task: As for :func:`guard_plugins.training.student.train_students`.
    """
    student = task.config.student
    if not student.guard_weight:
        yield task
        return
    hook = CurvatureHook(h_rms=step_of_students(task.config), weight=student.guard_weight)
    keeper = replace(task.keeper, riders={**task.keeper.riders, "student-hook": hook})
    with hook:
        yield replace(task, keeper=keeper)


def step_of_students(config: RunConfig) -> float | None:
    """Return the length per pixel of the probe step in the training of students; None where they have no hook."""
    student = config.student
    return (student.guard_h_rms or config.guard.h_rms) if student.guard_weight else None


def said_of_hook(config: RunConfig) -> list[str]:
    """Return in a sentence that students were trained under the hook; none where they were not."""
    weight, step = config.student.guard_weight, step_of_students(config)
    return [
        f"With --student.guard-weight {weight:g} students are trained under the curvature hook, too (h_rms = "
        f"{255 * step:.3g}/255). Methods compared with each other need the same."
    ] if step else []  # fmt: skip
