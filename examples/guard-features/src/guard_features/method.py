"""The method: real images, moved until robust networks see in them what they see in the whole class."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch

from guard_baselines.formation import joined, require_enough, require_tiles, set_of
from guard_features.bank import declared, embeddings
from guard_features.config import FeaturesConfig, FeaturesOptions
from guard_features.matching import Matching
from guard_features.presets import PRESETS
from guard_features.start import first_images
from guard_plugins import DistilledSet, LoopState, Method, MethodConfig, Normalised, RunConfig, Task, TeacherSpec
from guard_plugins.data.dsa import parse_strategy
from guard_plugins.errors import ConfigError
from guard_plugins.networks.embedding import Embedding


class Features(Method):
    """Images whose features under several networks trained with the hook are distributed as those of real images.

    The distance is that of characteristic functions (NCFM, arXiv 2502.20653), of means (DM, arXiv 2110.04181), or of
    every image to the real one it starts from (CIM), under Siamese augmentation (arXiv 2102.08259).
    """

    name = "features"
    summary = "images matched to real ones in the features of robust networks"
    rehearsable = True
    previews = True
    Config: ClassVar[type[MethodConfig]] = FeaturesConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS
    config: FeaturesConfig

    @classmethod
    def idle(cls, config: RunConfig) -> Mapping[str, str]:
        """Return the options that do nothing beside the others."""
        options: FeaturesOptions = config.features  # type: ignore[attr-defined]
        found: dict[str, str] = {}
        if options.distance != "characteristic":
            reason = "only --features.distance characteristic has frequencies"
            found |= {"features.frequencies": reason, "features.frequency_scale": reason}
            found["features.amplitude"] = "only --features.distance characteristic has amplitudes"
        if options.distance == "anchor":
            found["features.real_batch"] = "--features.distance anchor compares with the images it starts from"
        if options.teachers == 1:
            found["features.snapshots"] = "the first of the --features.teachers has none"
        return found

    def teachers(self) -> Sequence[TeacherSpec]:
        """Return a plain teacher, which labels the images, and more whose snapshots are used as well."""
        return declared(self.config.features.teachers, self.config.features.snapshots)

    def check(self, task: Task, teacher: Normalised | None) -> None:
        """Refuse networks without a linear layer, unknown augmentations, and what cannot be cut or filled.

        Raises:
            ConfigError: If network, strategy, distance or formation do not fit.
            DataError: If a class has too few training images.
        """
        options = self.config.features
        Embedding(task.network(stage="check"))
        parse_strategy(options.strategy)
        require_tiles(task.data.image_shape, options.formation, "--features.formation")
        if options.distance == "anchor" and options.formation == 1:
            raise ConfigError(
                "Images that are the real ones they start from are at no distance from them (--features.distance)",
                do="Store reduced images, with --features.formation 2, or choose another distance.",
            )
        require_enough(task, options.formation)

    def distill(self, task: Task, teacher: Normalised | None) -> DistilledSet:
        """Return `task.ipc` images of every class.

        Raises:
            TrainingError: If the distance stops being finite.
        """
        assert teacher is not None
        options = self.config.features
        anchors = first_images(task, teacher, self._needed(task), options.start)
        labels = torch.arange(task.classes).repeat_interleave(task.ipc)
        first = set_of(joined(anchors, options.formation), labels, options.formation)
        images = teacher.normalise(first.images.to(task.device)).clone().requires_grad_()
        adam = torch.optim.Adam([images], lr=options.lr, betas=(0.5, 0.9))
        matching = Matching(task, options, embeddings(task), teacher, anchors.to(task.device), first)

        def made() -> DistilledSet:
            return replace(first, images=teacher.pixels(images.detach()).clamp(0, 1).cpu())

        state = LoopState(images=images, adam=adam)
        for step in task.steps("features", options.steps, state=state, preview=made):
            adam.param_groups[0]["lr"] = options.lr * (1 + math.cos(math.pi * step.index / options.steps)) / 2
            step.log(distance=matching.differentiate(images, step.index))
            adam.step()
            with torch.no_grad():
                images.copy_(teacher.normalise(teacher.pixels(images).clamp(0, 1)))
        return made()

    def _needed(self, task: Task) -> int:
        return task.ipc * self.config.features.formation**2
