"""The lower baseline: images of pure noise, on which students learn from the soft labels only."""

from __future__ import annotations

import torch

from guard_plugins.data.distilled import DistilledSet
from guard_plugins.hookspecs import hookimpl
from guard_plugins.method import Method
from guard_plugins.networks.normalised import Normalised
from guard_plugins.runtime.task import Task


class Noise(Method):
    """Gaussian noise in normalised space, clipped to valid pixels; every method should be better."""

    name = "noise"
    summary = "baseline: images of pure noise (students learn from soft labels only)"
    rehearsable = True

    def distill(self, task: Task, teacher: Normalised | None) -> DistilledSet:
        """Return ``task.ipc`` noise images per class; the class labels mean nothing."""
        assert teacher is not None
        labels = torch.arange(task.classes).repeat(task.ipc)
        start = torch.randn((len(labels), *task.data.image_shape), generator=task.seeds.generator("noise"))
        return DistilledSet(teacher.pixels(start.to(task.device)).clamp(0, 1).detach().cpu(), labels)


@hookimpl
def register_methods() -> list[type[Method]]:
    """Register the method."""
    return [Noise]
