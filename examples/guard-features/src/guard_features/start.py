"""The real images that the matching starts from."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from guard_baselines.centres import nearest_to_centres
from guard_plugins import Normalised, Task
from guard_plugins.data.classwise import Classwise


def first_images(task: Task, teacher: Normalised, count: int, start: Literal["random", "centres"]) -> Tensor:
    """Return ``count`` different real images of every class, class by class, in pixels.

    Args:
        task: The task.
        teacher: Whose features have the centres.
        count: Images of every class.
        start: Which ones.
    """
    if start == "centres":
        return task.data.train.images(torch.cat(nearest_to_centres(task, teacher, count)))
    real = Classwise(task.data.train, task.classes)
    return torch.cat(
        [real.draw(label, count, task.seeds.generator("features", "start", label)) for label in range(task.classes)]
    )
