"""The upper baseline: the same number of random real images; a distilled set should be better under the same labels."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from guard_plugins.data.classes import members_by_class
from guard_plugins.data.distilled import DistilledSet
from guard_plugins.errors import DataError
from guard_plugins.hookspecs import hookimpl
from guard_plugins.method import Method
from guard_plugins.networks.normalised import Normalised
from guard_plugins.runtime.task import Task

PART: Final = 1000
"""Images that are read at a time."""


class RandomReal(Method):
    """Random training images of every class, without replacement."""

    name = "random"
    summary = "baseline: randomly drawn real images"
    rehearsable = True

    def check(self, task: Task, teacher: Normalised | None) -> None:
        """Refuse classes with fewer images than ``--ipc``, before a teacher is trained.

        Raises:
            DataError: If there is such a class.
        """
        _chosen(task)

    def distill(self, task: Task, teacher: Normalised | None) -> DistilledSet:
        """Return ``task.ipc`` real images per class.

        Raises:
            DataError: If a class has fewer images.
        """
        labels = torch.arange(task.classes).repeat(task.ipc)
        parts = torch.stack(_chosen(task), dim=1).flatten().split(PART)
        return DistilledSet(task.items("draw", len(parts), lambda part: task.data.train.images(parts[part])), labels)


def _chosen(task: Task) -> list[Tensor]:
    """Return the positions of the images of every class.

    Raises:
        DataError: If a class has fewer images than are asked for.
    """
    return [_draw(task, *pair) for pair in enumerate(members_by_class(task.data.train.labels, task.classes))]


def _draw(task: Task, label: int, members: Tensor) -> Tensor:
    if len(members) < task.ipc:
        raise _too_few(task, label, len(members))
    order = torch.randperm(len(members), generator=task.seeds.generator("random", label))
    return members[order[: task.ipc]]


def _too_few(task: Task, label: int, found: int) -> DataError:
    limit = task.config.data.train_per_class
    least = int(torch.bincount(task.data.train.labels, minlength=task.classes).min())
    # Raising the limit helps only if the class has as many images as the limit lets through.
    raised = f", or raise --data.train-per-class (now {limit})" if limit is not None and found >= limit else ""
    return DataError(
        f"The class {task.data.classes[label]!r} has {found} training images, fewer than --ipc asks for",
        seen=f"{found} images, --ipc {task.ipc}",
        do=f"Lower --ipc to {least} or less{raised}.",
    )


@hookimpl
def register_methods() -> list[type[Method]]:
    """Register the method."""
    return [RandomReal]
