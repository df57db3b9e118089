"""The upper baseline: the same number of random real images; a distilled set should be better under the same labels."""

from __future__ import annotations

from typing import ClassVar, Final

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from torch import Tensor
from torch.nn import functional as F

from guard_plugins.data.classes import members_by_class
from guard_plugins.data.distilled import DistilledSet
from guard_plugins.data.views import grid_views
from guard_plugins.errors import ConfigError, DataError
from guard_plugins.hookspecs import hookimpl
from guard_plugins.method import Method, MethodConfig
from guard_plugins.networks.normalised import Normalised
from guard_plugins.runtime.task import Task

PART: Final = 1000
"""Images that are read at a time."""


class FormationConfig(BaseModel):
    """How real images share a stored one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    formation: PositiveInt = Field(
        1, description="store K x K real images, each reduced to 1/K of its side, in one (IDC's multi-formation)"
    )


class RandomConfig(MethodConfig):
    """The options of the baseline."""

    random: FormationConfig = Field(FormationConfig(), description="the random real images")


class RandomReal(Method):
    """Random training images of every class, without replacement."""

    name = "random"
    summary = "baseline: randomly drawn real images"
    Config: ClassVar[type[MethodConfig]] = RandomConfig
    rehearsable = True
    config: RandomConfig

    def check(self, task: Task, teacher: Normalised | None) -> None:
        """Refuse classes with too few images for ``--ipc``, before a teacher is trained.

        Raises:
            DataError: If there is such a class.
            ConfigError: If the formation does not divide the images.
        """
        factor = self.config.random.formation
        if any(side % factor for side in task.data.image_shape[1:]):
            raise ConfigError(
                "The images cannot be cut into tiles of one size (--random.formation)",
                seen=f"{factor} x {factor} tiles, images of {' x '.join(map(str, task.data.image_shape[1:]))} pixels",
                do="Choose a number that divides both sides.",
            )
        _chosen(task, factor)

    def distill(self, task: Task, teacher: Normalised | None) -> DistilledSet:
        """Return ``task.ipc`` images per class: a real one each, or as many as the formation says, reduced.

        Raises:
            DataError: If a class has fewer images.
        """
        factor = self.config.random.formation
        labels = torch.arange(task.classes).repeat(task.ipc)
        chosen = _chosen(task, factor).split(PART * factor**2)
        stored = task.items("draw", len(chosen), lambda part: _joined(task.data.train.images(chosen[part]), factor))
        if factor == 1:
            return DistilledSet(stored, labels)
        height, width = task.data.image_shape[1:]
        return DistilledSet(stored, labels, views=grid_views(len(labels), (height, width), factor))


def _chosen(task: Task, factor: int) -> Tensor:
    """Return the positions of the images of every stored one, side by side: int64 of shape (stored x factor²,).

    Raises:
        DataError: If a class has fewer images than are asked for.
    """
    members = members_by_class(task.data.train.labels, task.classes)
    drawn = [_draw(task, label, found, factor).view(task.ipc, -1) for label, found in enumerate(members)]
    return torch.stack(drawn, dim=1).flatten()


def _joined(images: Tensor, factor: int) -> Tensor:
    """Return stored images of ``factor`` x ``factor`` reduced images each, from (N x factor², C, H, W)."""
    if factor == 1:
        return images
    height, width = images.shape[2:]
    small = F.interpolate(images, size=(height // factor, width // factor), mode="area")
    tiles = small.unflatten(0, (-1, factor, factor))  # (N, row, column, C, h, w)
    joined: Tensor = tiles.permute(0, 3, 1, 4, 2, 5).reshape(len(tiles), -1, height, width)
    return joined.clamp(0, 1)


def _draw(task: Task, label: int, members: Tensor, factor: int) -> Tensor:
    if len(members) < task.ipc * factor**2:
        raise _too_few(task, label, len(members), factor)
    order = torch.randperm(len(members), generator=task.seeds.generator("random", label))
    return members[order[: task.ipc * factor**2]]


def _too_few(task: Task, label: int, found: int, factor: int) -> DataError:
    limit = task.config.data.train_per_class
    least = int(torch.bincount(task.data.train.labels, minlength=task.classes).min())
    # Raising the limit helps only if the class has as many images as the limit lets through.
    raised = f", or raise --data.train-per-class (now {limit})" if limit is not None and found >= limit else ""
    return DataError(
        f"The class {task.data.classes[label]!r} has {found} training images, fewer than --ipc asks for",
        seen=f"{found} images, --ipc {task.ipc}" + (f", {factor**2} in each" if factor > 1 else ""),
        do=f"Lower --ipc to {least // factor**2} or less{raised}.",
    )


@hookimpl
def register_methods() -> list[type[Method]]:
    """Register the method."""
    return [RandomReal]
