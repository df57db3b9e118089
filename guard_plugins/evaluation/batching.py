"""How many images are attacked at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from guard_plugins.task import Task

MOST: Final = 500
CPU_PIXELS: Final = 2**17
"""Pixels of a batch on a CPU, 128 images of 32x32.

Of a larger batch every activation is a new mapping, whose pages the system clears first: on one core, input gradients
of 512 such images through the small ResNet took 0.68 s in one batch, 0.48 s in batches of 256, 0.35 s of 128 or 64.
"""


def attack_batch(task: Task) -> int:
    """Return ``evaluation.batch_size``, or where it is not set what suits the device and the size of the images."""
    asked = task.config.evaluation.batch_size
    if asked is not None:
        return asked
    if task.device.type != "cpu":
        return MOST
    _, height, width = task.data.image_shape
    return min(MOST, max(1, CPU_PIXELS // (height * width)))
