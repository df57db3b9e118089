"""A stronger baseline: the real images nearest to the centres of their class in the features of the robust teacher."""

from __future__ import annotations

from typing import ClassVar, Final

import torch
from pydantic import Field
from sklearn.cluster import KMeans
from torch import Tensor

from guard_baselines.formation import FormationConfig, joined, require_enough, require_tiles, set_of
from guard_plugins.data.classes import members_by_class
from guard_plugins.data.distilled import DistilledSet
from guard_plugins.hookspecs import hookimpl
from guard_plugins.method import Method, MethodConfig
from guard_plugins.networks.embedding import Embedding
from guard_plugins.networks.normalised import Normalised
from guard_plugins.runtime.task import Task

PART: Final = 500
"""Images whose features are computed at a time."""


class CentresConfig(MethodConfig):
    """The options of the baseline."""

    centres: FormationConfig = Field(FormationConfig(), description="the real images nearest to centres")


class RealCentres(Method):
    """Training images nearest to the k-means centres of their class, in the features of the teacher."""

    name = "centres"
    summary = "baseline: real images nearest to k-means centres of the teacher's features"
    Config: ClassVar[type[MethodConfig]] = CentresConfig
    rehearsable = True
    config: CentresConfig

    def check(self, task: Task, teacher: Normalised | None) -> None:
        """Refuse networks without features, and classes with too few images for ``--ipc``.

        Raises:
            ConfigError: If the network has no linear layer, or the formation does not divide the images.
            DataError: If a class has too few images.
        """
        factor = self.config.centres.formation
        Embedding(task.network(stage="check"))
        require_tiles(task.data.image_shape, factor, "--centres.formation")
        require_enough(task, factor)

    def distill(self, task: Task, teacher: Normalised | None) -> DistilledSet:
        """Return ``task.ipc`` images per class: a real one each, or as many as the formation says, reduced."""
        assert teacher is not None
        factor = self.config.centres.formation
        chosen = nearest_to_centres(task, teacher, task.ipc * factor**2)
        stored = joined(task.data.train.images(torch.cat(chosen)), factor)
        labels = torch.arange(task.classes).repeat_interleave(task.ipc)
        return set_of(stored, labels, factor)


def nearest_to_centres(task: Task, teacher: Normalised, count: int) -> list[Tensor]:
    """Return for every class the positions of ``count`` training images, each nearest to a k-means centre: (count,).

    No image is taken twice: the centres of large clusters choose first.

    Args:
        task: The task; every class has that many training images.
        teacher: The network whose features are clustered, in eval mode.
        count: Centres and images of every class.
    """
    found = []
    for label, members in enumerate(members_by_class(task.data.train.labels, task.classes)):
        features = _features(task, teacher, members)
        seed = task.seeds.derive("centres", label) % 2**32
        clusters = KMeans(count, n_init=4, random_state=seed).fit(features.numpy())
        centres = torch.from_numpy(clusters.cluster_centers_).to(features)
        order = torch.bincount(torch.from_numpy(clusters.labels_).long(), minlength=count).argsort(
            descending=True, stable=True
        )
        distances, chosen = torch.cdist(centres, features), torch.zeros(count, dtype=torch.int64)
        for centre in order.tolist():
            chosen[centre] = distances[centre].argmin()
            distances[:, chosen[centre]] = torch.inf
        found.append(members[chosen[order]])
    return found


def _features(task: Task, teacher: Normalised, members: Tensor) -> Tensor:
    embedding = Embedding(teacher)
    with torch.no_grad():
        parts = [
            embedding(teacher.normalise(task.data.train.images(part).to(task.device))).float().cpu()
            for part in members.split(PART)
        ]
    return torch.cat(parts)


@hookimpl
def register_methods() -> list[type[Method]]:
    """Register the method."""
    return [RealCentres]
