"""The method: real images, moved until robust networks see in them what they see in the whole class."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from guard_baselines.formation import joined, require_enough, require_tiles, set_of
from guard_features.bank import declared, embeddings
from guard_features.config import FeaturesConfig, FeaturesOptions
from guard_features.frequencies import FrequencyNetwork
from guard_features.matching import Matching
from guard_features.presets import PRESETS
from guard_features.start import first_images
from guard_plugins import DistilledSet, LoopState, Method, MethodConfig, Normalised, RunConfig, Task, TeacherSpec
from guard_plugins.data.dsa import parse_strategy
from guard_plugins.errors import ConfigError
from guard_plugins.networks.embedding import Embedding


class Features(Method):
    """Images whose features under several networks trained with the hook are distributed as those of real images.

    The distance is that of characteristic functions (NCFM, arXiv 2502.20653) at random or learned frequencies, of means
    (DM, arXiv 2110.04181), or of every image to the real one it starts from (CIM), under Siamese augmentation (arXiv
    2102.08259).
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
            names = ("frequencies", "frequency_scale", "frequencies_from", "frequency_lr")
            found |= {f"features.{name}": reason for name in names}
            found["features.amplitude"] = "only --features.distance characteristic has amplitudes"
        elif options.frequencies_from == "random":
            found["features.frequency_lr"] = "only --features.frequencies-from learned trains a network"
        if options.distance == "anchor":
            found["features.real_batch"] = "--features.distance anchor compares with the images it starts from"
        if options.teachers == 1:
            found["features.snapshots"] = "the first of the --features.teachers has none"
        return found

    def teachers(self) -> Sequence[TeacherSpec]:
        """Return a plain teacher, which labels the images, and more whose snapshots are used as well."""
        return declared(self.config.features.teachers, self.config.features.snapshots)

    def check(self, task: Task, teacher: Normalised | None) -> None:
        """Refuse networks without a linear layer, unknown augmentations, and what cannot be cut, filled or normalised.

        Raises:
            ConfigError: If network, strategy, distance, frequencies or formation do not fit.
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
        if self._learns and options.frequencies == 1:
            raise ConfigError(
                "Learned frequencies are normalised among themselves, so one is too few (--features.frequencies)",
                do="Ask for 2 or more, or for random ones.",
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
        networks = embeddings(task)
        learned = self._frequency_network(task, networks, images)
        matching = Matching(task, options, networks, teacher, anchors.to(task.device), first, learned)

        def made() -> DistilledSet:
            return replace(first, images=teacher.pixels(images.detach()).clamp(0, 1).cpu())

        state, optimisers = LoopState(images=images, adam=adam), [adam]
        if learned is not None:
            ascent = torch.optim.Adam(learned.parameters(), lr=options.frequency_lr, maximize=True)
            state = LoopState(images=images, adam=adam, learned=learned, ascent=ascent)
            optimisers.append(ascent)
        for step in task.steps("features", options.steps, state=state, preview=made):
            adam.param_groups[0]["lr"] = options.lr * (1 + math.cos(math.pi * step.index / options.steps)) / 2
            step.log(distance=matching.differentiate(images, step.index))
            for optimiser in optimisers:
                optimiser.step()
            with torch.no_grad():
                images.copy_(teacher.normalise(teacher.pixels(images).clamp(0, 1)))
        return made()

    @property
    def _learns(self) -> bool:
        options = self.config.features
        return options.distance == "characteristic" and options.frequencies_from == "learned"

    def _frequency_network(self, task: Task, networks: Sequence[Embedding], images: Tensor) -> FrequencyNetwork | None:
        if not self._learns:
            return None
        with torch.no_grad():
            dimensions = networks[0](images[:1]).shape[1]  # of all networks, which have one architecture
        generator = task.seeds.generator("features", "frequency-network")
        return FrequencyNetwork(dimensions, self.config.features.frequency_scale, generator).to(task.device)

    def _needed(self, task: Task) -> int:
        return task.ipc * self.config.features.formation**2
