"""The method RDED: the host's teacher, trained under the hook, chooses patches and labels them."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from guard_plugins import DistilledSet, LoopState, Method, MethodConfig, Normalised, Task
from guard_plugins.data.augment import random_resized_crop
from guard_plugins.errors import ConfigError, DataError
from guard_rded.config import RDEDConfig
from guard_rded.patches import collage, unlikeliness


class RDED(Method):
    """The patches of real images that the teacher finds most realistic, several to an image, with its soft labels.

    Sun, Shi, Yu & Lin, "On the Diversity and Realism of Distilled Dataset" (CVPR 2024, arXiv 2312.03526).
    """

    name = "rded"
    summary = "real patches the teacher finds most realistic (arXiv 2312.03526)"
    rehearsable = True
    Config: ClassVar[type[MethodConfig]] = RDEDConfig
    config: RDEDConfig

    def check(self, task: Task, teacher: Normalised | None) -> None:
        """Refuse images that cannot be divided, and classes with too few of them.

        Raises:
            ConfigError: If a side is no multiple of ``factor``.
            DataError: If a class has fewer images than patches are needed.
        """
        factor, (_, height, width) = self.config.rded.factor, task.data.image_shape
        if height % factor or width % factor:
            raise ConfigError(
                f"Images of {height}x{width} pixels cannot be put together from {factor}x{factor} patches "
                "(--rded.factor)",
                do="Choose a divisor of the side, or another --data.image-size.",
            )
        counts = torch.bincount(task.data.train.labels, minlength=task.classes).clamp(max=self.config.rded.pool)
        if int(counts.min()) < self._needed(task):
            raise DataError(
                f"The class {task.data.classes[int(counts.argmin())]!r} has too few real images to choose from",
                seen=f"{int(counts.min())} images, {self._needed(task)} patches needed",
                do="Lower --ipc or --rded.factor, or raise --rded.pool or --data.train-per-class.",
            )

    def distill(self, task: Task, teacher: Normalised | None) -> DistilledSet:
        """Return `task.ipc` images of every class with the teacher's logits."""
        assert teacher is not None
        labels = torch.arange(task.classes).repeat_interleave(task.ipc)
        images = torch.zeros(len(labels), *task.data.image_shape)
        for step in task.steps("select", task.classes, state=LoopState(images=images)):
            patches, scores = self._chosen(task, teacher, step.index)
            images[labels == step.index] = collage(patches, self.config.rded.factor).cpu()
            step.log(ce=scores.mean())
        with torch.no_grad():
            parts = images.split(self.config.rded.batch)
            soft = torch.cat([teacher(part.to(task.device)).float().cpu() for part in parts])
        return DistilledSet(images, labels, soft)

    def _chosen(self, task: Task, teacher: Normalised, label: int) -> tuple[Tensor, Tensor]:
        """Return the most realistic patches of a class, best first and one per image at most, and their scores."""
        options, train = self.config.rded, task.data.train
        members = torch.nonzero(train.labels == label).flatten()
        order = torch.randperm(len(members), generator=task.seeds.generator("select", label))
        pool = train.images(members[order[: options.pool]]).to(task.device)
        # Every step seeds the global random stream, so the crops depend on the seed only.
        crops = [random_resized_crop(pool, scale=(options.crop_scale, 1.0)) for _ in range(options.crops)]
        scores = torch.stack([unlikeliness(teacher, crop, label, batch=options.batch) for crop in crops])
        best, which = scores.min(0)
        patches = torch.stack(crops)[which, torch.arange(len(pool), device=which.device)]
        ranked = best.argsort(stable=True)[: self._needed(task)]
        return patches[ranked].clamp(0, 1), best[ranked]

    def _needed(self, task: Task) -> int:
        return task.ipc * self.config.rded.factor**2
