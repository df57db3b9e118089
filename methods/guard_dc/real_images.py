"""The real images whose gradients are matched."""

from __future__ import annotations

from torch import Tensor

from guard_plugins.data.classwise import Classwise, resident
from guard_plugins.errors import DataError
from guard_plugins.runtime.task import Task


class RealImages:
    """Random real images of one class at a time, on the device.

    Args:
        task: Gives data, seeds and device.

    Raises:
        DataError: If a class has no training image.
    """

    def __init__(self, task: Task) -> None:
        self._seeds, self._device = task.seeds, task.device
        self._classwise = Classwise(resident(task.data.train, task.data.image_shape, task.device), task.classes)
        empty = [task.data.classes[i] for i, members in enumerate(self._classwise.members) if not len(members)]
        if empty:
            raise DataError(
                f"The class {empty[0]!r} has no training image to match gradients on",
                seen=f"{len(empty)} of {task.classes} classes are empty", do="Remove its folder, or add images to it.",
            )  # fmt: skip

    def draw(self, label: int, count: int, *path: str | int) -> Tensor:
        """Return ``count`` random images (count, C, H, W) of a class; images repeat only if the class has fewer.

        Args:
            label: The class.
            count: Number of images.
            *path: What the images are for; other paths give other images.
        """
        generator = self._seeds.generator("match", "real", label, *path)
        return self._classwise.draw(label, count, generator).to(self._device, non_blocking=True)

    def batch(self, label: int, count: int, *path: str | int) -> Tensor:
        """Return what :meth:`draw` does, but no image twice.

        Args:
            label: The class.
            count: Largest number of images.
            *path: What the images are for.
        """
        return self.draw(label, min(count, len(self._classwise.members[label])), *path)
