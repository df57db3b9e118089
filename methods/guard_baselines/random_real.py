"""The upper baseline: the same number of random real images; a distilled set should be better under the same labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

import torch
from pydantic import Field
from torch import Tensor

from guard_baselines.formation import FormationConfig, joined, require_enough, require_tiles, set_of
from guard_plugins.config.presets import PRESETS
from guard_plugins.data.classes import members_by_class
from guard_plugins.data.distilled import DistilledSet
from guard_plugins.hookspecs import hookimpl
from guard_plugins.method import Method, MethodConfig
from guard_plugins.networks.normalised import Normalised
from guard_plugins.runtime.task import Task

PART: Final = 1000
"""Images that are read at a time."""

TEN_IMAGES: Final[Mapping[str, Any]] = {
    **PRESETS["fast"],
    "ipc": 10,
    "data": {**PRESETS["fast"]["data"], "train_per_class": 5000},
    "guard": {"h_rms": 0.02},
    "student": {**PRESETS["fast"]["student"], "epochs": 1000},
    "random": {"formation": 2},
}
"""What gave the most robust students with ten stored images per class of CIFAR-10 on a CPU, all training images for the
teacher (examples/experiments/RESULTS.md, "The most robust student of 10 images per class")."""


class RandomConfig(MethodConfig):
    """The options of the baseline."""

    random: FormationConfig = Field(FormationConfig(), description="the random real images")


class RandomReal(Method):
    """Random training images of every class, without replacement."""

    name = "random"
    summary = "baseline: randomly drawn real images"
    Config: ClassVar[type[MethodConfig]] = RandomConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"fast-ipc10-2026-11": TEN_IMAGES}
    rehearsable = True
    config: RandomConfig

    def check(self, task: Task, teacher: Normalised | None) -> None:
        """Refuse classes with too few images for ``--ipc``, before a teacher is trained.

        Raises:
            DataError: If there is such a class.
            ConfigError: If the formation does not divide the images.
        """
        factor = self.config.random.formation
        require_tiles(task.data.image_shape, factor, "--random.formation")
        require_enough(task, factor)

    def distill(self, task: Task, teacher: Normalised | None) -> DistilledSet:
        """Return ``task.ipc`` images per class: a real one each, or as many as the formation says, reduced."""
        factor = self.config.random.formation
        labels = torch.arange(task.classes).repeat(task.ipc)
        chosen = _chosen(task, factor).split(PART * factor**2)
        stored = task.items("draw", len(chosen), lambda part: joined(task.data.train.images(chosen[part]), factor))
        return set_of(stored, labels, factor)


def _chosen(task: Task, factor: int) -> Tensor:
    """Return the positions of the images of every stored one, side by side: int64 of shape (stored x factor²,)."""
    members = members_by_class(task.data.train.labels, task.classes)
    drawn = [_draw(task, label, found, factor).view(task.ipc, -1) for label, found in enumerate(members)]
    return torch.stack(drawn, dim=1).flatten()


def _draw(task: Task, label: int, members: Tensor, factor: int) -> Tensor:
    order = torch.randperm(len(members), generator=task.seeds.generator("random", label))
    return members[order[: task.ipc * factor**2]]


@hookimpl
def register_methods() -> list[type[Method]]:
    """Register the method."""
    return [RandomReal]
