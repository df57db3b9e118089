"""What students on a method's labels learn from."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from guard_plugins.data.distilled import DistilledSet
from guard_plugins.pipeline.context import RunContext
from guard_plugins.runtime.task import Task
from guard_plugins.training.student_batches import FixedLabelBatches, StudentBatches, online

Batches = Callable[[str], StudentBatches]
"""From the name of a student's loop to its batches."""


def labelled(run: RunContext, task: Task, distilled: DistilledSet, teacher: nn.Module | None) -> Batches:
    """Return the batches with the method's labels; a teacher is asked for them at every step.

    Args:
        run: Knows what students learn from.
        task: Gives the recipe, seeds and device.
        distilled: The images.
        teacher: Who gives soft labels, in eval mode; None where nobody is asked.
    """
    if run.labels == "own":
        return lambda stage: FixedLabelBatches(task, distilled, stage=stage)
    return online(task, distilled, teacher)
