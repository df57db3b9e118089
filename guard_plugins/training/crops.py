"""Random boxes cut from the image files themselves, and half of them mirrored: the ImageNet way of training."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from guard_plugins.data.augment import AREA, ASPECT, flip
from guard_plugins.data.boxes import BoxNumbers, draw_numbers
from guard_plugins.runtime.task import Task
from guard_plugins.training.parts import Rows


def original_crops(task: Task, size: int, rows: Rows) -> Callable[[int, Tensor], Tensor] | None:
    """Return what reads the augmented images of a step of the teacher, or None where augmentation comes after reading.

    The boxes are those of ``resized-crop-flip``, in the whole image in place of its central square. They are drawn from
    streams of their own, one a step, since images are read ahead of the step that uses them.

    Args:
        task: Gives data, settings and seeds.
        size: Images of a batch.
        rows: Which of them this process has.
    """
    originals, settings = task.data.train.originals, task.config.teacher
    if settings.crop_from == "square" or settings.augment != "resized-crop-flip" or originals is None:
        return None

    def read(step: int, index: Tensor) -> Tensor:
        generator = task.seeds.generator("teacher", "crops", step)
        drawn = draw_numbers(size, scale=AREA, ratio=ASPECT, generator=generator)
        numbers = BoxNumbers(*(rows.take(field.movedim(-1, 0)).movedim(0, -1) for field in drawn))
        flipped = rows.take(torch.rand(size, generator=generator) < 0.5)
        return flip(originals.crops(index, numbers, ASPECT), flipped)

    return read
