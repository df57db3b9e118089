"""The method DM. It has no teacher and no loss on real data, so the curvature hook does not apply."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from guard_dm.config import DMConfig
from guard_plugins import DistilledSet, LoopState, Method, MethodConfig, Normalised, Task
from guard_plugins.data.classwise import Classwise
from guard_plugins.data.dsa import parse_strategy, siamese_augment
from guard_plugins.errors import DataError
from guard_plugins.networks.embedding import Embedding


class DM(Method):
    """Images whose mean embedding under random networks is that of the real images, class by class.

    Zhao & Bilen, "Dataset Condensation with Distribution Matching" (WACV 2023, arXiv 2110.04181), equation 4, under
    differentiable Siamese augmentation (arXiv 2102.08259).
    """

    name = "dm"
    summary = "images with the mean embeddings of real ones under random networks (arXiv 2110.04181)"
    rehearsable = True
    previews = True
    Config: ClassVar[type[MethodConfig]] = DMConfig
    defaults: ClassVar[Mapping[str, Any]] = {"student": {"network": "convnet3", "protocol": "dc"}}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        # Digits must not be flipped; at 8x8 pixels fewer steps are enough.
        "digits": {"dm": {"iterations": 300, "batch_real": 64, "strategy": "crop_scale_rotate"}},
    }
    guarded: ClassVar[tuple[str, ...]] = ()
    uses_teacher: ClassVar[bool] = False
    labels: ClassVar[Literal["soft", "hard"]] = "hard"
    config: DMConfig

    def check(self, task: Task, teacher: Normalised | None) -> None:
        """Refuse networks without a linear layer, unknown augmentations and classes without images.

        Raises:
            ConfigError: If network or strategy do not fit.
            DataError: If a class has no training image.
        """
        Embedding(self._network(task, "check"), option="--dm.network")
        parse_strategy(self.config.dm.strategy)
        counts = torch.bincount(task.data.train.labels, minlength=task.classes)
        if not counts.all():
            empty = task.data.classes[int(counts.argmin())]
            raise DataError(f"The class {empty!r} has no training image", do="Remove the class, or add images to it.")

    def distill(self, task: Task, teacher: Normalised | None) -> DistilledSet:
        """Return `task.ipc` images of every class.

        Raises:
            TrainingError: If the distance stops being finite.
        """
        options, real = self.config.dm, Classwise(task.data.train, task.classes)
        space = self._network(task, "space")  # all networks of the task have the same normalisation
        images = space.normalise(self._start(task, real).to(task.device)).requires_grad_()
        sgd = torch.optim.SGD([images], lr=options.lr, momentum=options.momentum)

        def made() -> DistilledSet:
            pixels = space.pixels(images.detach()).clamp(0, 1).cpu()
            return DistilledSet(pixels, torch.arange(task.classes).repeat_interleave(task.ipc))

        for step in task.steps("dm", options.iterations, state=LoopState(images=images, sgd=sgd), preview=made):
            embedding = Embedding(self._network(task, f"dm/{step.index}"))
            distance = self._distance(task, real, space, embedding, images, step.index)
            (images.grad,) = torch.autograd.grad(distance, [images])
            sgd.step()
            step.log(distance=distance)
        return made()

    def _network(self, task: Task, stage: str) -> Normalised:
        return task.network(self.config.dm.network, stage=stage)

    def _start(self, task: Task, real: Classwise) -> Tensor:
        """Return the first iterate in pixels, class by class, shape (classes * ipc, C, H, W)."""
        generator = task.seeds.generator("dm", "start")
        if self.config.dm.start == "noise":
            return torch.rand((task.classes * task.ipc, *task.data.image_shape), generator=generator)
        return torch.cat([real.draw(label, task.ipc, generator) for label in range(task.classes)])

    def _distance(
        self, task: Task, real: Classwise, space: Normalised, embedding: Embedding, images: Tensor, step: int
    ) -> Tensor:
        """Return the sum over classes of ||mean embedding of real - mean embedding of synthetic||², a scalar."""
        options, terms = self.config.dm, []
        for label, synthetic in enumerate(images.split(task.ipc)):
            seed = task.seeds.derive("dm", "augment", step, label)
            drawn = real.draw(
                label, min(options.batch_real, len(real.members[label])), task.seeds.generator("dm", step, label)
            )
            with torch.no_grad():
                genuine = space.normalise(drawn.to(task.device))
                target = embedding(siamese_augment(genuine, options.strategy, seed=seed)).mean(0)
            mean = embedding(siamese_augment(synthetic, options.strategy, seed=seed)).mean(0)
            terms.append((target - mean).square().sum())
        return torch.stack(terms).sum()
