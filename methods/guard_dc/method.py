"""The method DC: images whose gradients on fresh networks match those of real images; it has no teacher."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from guard_dc.chunked import in_parts
from guard_dc.config import DCConfig, MatchConfig
from guard_dc.distance import matched_parameters
from guard_dc.matching import Batch, Gradients, Matching
from guard_dc.presets import DEFAULTS, PRESETS
from guard_dc.real_images import RealImages
from guard_dc.schedule import Loops, loops_for
from guard_plugins.config import RunConfig
from guard_plugins.data.distilled import DistilledSet
from guard_plugins.errors import ConfigError
from guard_plugins.method import Method, MethodConfig
from guard_plugins.networks.normalised import Normalised
from guard_plugins.runtime.loop import LoopState
from guard_plugins.runtime.task import Task
from guard_plugins.runtime.work import Work


class DC(Method):
    """Dataset condensation with gradient matching (Zhao, Mopuri & Bilen, ICLR 2021, arXiv 2006.05929).

    With ``match.augment = dsa`` it is DSA (Zhao & Bilen, ICML 2021, arXiv 2102.08259).
    """

    name = "dc"
    summary = "images whose gradients on fresh networks match those of real images (arXiv 2006.05929, 2102.08259)"
    rehearsable = True
    previews = True
    Config: ClassVar[type[MethodConfig]] = DCConfig
    defaults: ClassVar[Mapping[str, Any]] = DEFAULTS
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS
    guarded: ClassVar[tuple[str, ...]] = ("matching_target",)
    uses_teacher: ClassVar[bool] = False
    labels: ClassVar[Literal["soft", "hard"]] = "hard"
    networks: ClassVar[tuple[str, ...]] = ("match.network",)
    config: DCConfig

    @classmethod
    def idle(cls, config: RunConfig) -> Mapping[str, str]:
        """Return the options that do nothing beside the others."""
        match: MatchConfig = config.match  # type: ignore[attr-defined]
        found = {}
        if config.student.network is not None:
            found["teacher.network"] = "--match.network and --student.network name the networks"
        if match.augment == "none":
            found["match.strategy"] = "only --match.augment dsa chooses from it"
        if (match.outer or loops_for(config.ipc).outer) == 1:
            names = ("match.inner", "match.batch", "match.lr_network")
            found |= dict.fromkeys(names, "with one image step per network (--match.outer) no network is trained")
        return found

    def check(self, task: Task, teacher: Normalised | None) -> None:
        """Refuse a network that does not exist.

        Raises:
            ConfigError: If there is none of that name, or the network cannot take the images.
        """
        if not self.config.match.network:
            raise ConfigError("--match.network is empty", do="Name a network, such as convnet3.")
        task.network(self.config.match.network, stage="match/frame")

    def matching_target(self, model: Normalised, batches: Iterable[Batch]) -> list[Gradients]:
        """Return the gradients of the loss on real images, which the distilled images are to match, batch by batch.

        Args:
            model: The network of this outer iteration (pixels in, logits out).
            batches: Real images (B, C, H, W) and labels (B,), one batch per class.
        """
        weights = matched_parameters(model.network, self.config.match.distance)
        losses = (F.cross_entropy(in_parts(model, images), labels) for images, labels in batches)
        return [torch.autograd.grad(loss, weights) for loss in losses]

    def work(self, task: Task) -> Sequence[Work]:
        """Return the outer iterations: images matched per class, and those that train the network in between."""
        loops, settings = self._loops(task.ipc), self.config.match
        matched = task.classes * (settings.real_batch + task.ipc) * loops.outer
        trained = task.classes * task.ipc * loops.inner * (loops.outer - 1)
        return (Work("match", 1, matched + trained, settings.iterations),)

    def distill(self, task: Task, teacher: Normalised | None) -> DistilledSet:
        """Match gradients on ``match.iterations`` fresh networks and return the images.

        Raises:
            DataError: If a class has no training image.
            TrainingError: If the distance stops being finite.
        """
        settings, real = self.config.match, RealImages(task)
        frame = task.network(settings.network, stage="match/frame")
        images = self._first_iterate(task, real, frame)
        sgd = torch.optim.SGD([images], lr=settings.lr_images, momentum=settings.momentum)
        matching = Matching(task, settings, self._loops(task.ipc), images, sgd, real, frame, self.matching_target)

        def made() -> DistilledSet:
            return DistilledSet(frame.pixels(images).clamp(0, 1).cpu(), _labels(task))

        state = LoopState(images=images, optimizer=sgd)
        for step in task.steps("match", settings.iterations, state=state, preview=made):
            step.log(distance=matching.iterate(step.index))
        return made()

    def _loops(self, ipc: int) -> Loops:
        table, settings = loops_for(ipc), self.config.match
        return Loops(settings.outer or table.outer, settings.inner or table.inner)

    def _first_iterate(self, task: Task, real: RealImages, frame: Normalised) -> Tensor:
        """Return the start in normalised space, class by class, shape (classes * ipc, C, H, W)."""
        if self.config.match.start == "real":
            return frame.normalise(torch.cat([real.draw(label, task.ipc, "start") for label in range(task.classes)]))
        shape = (task.classes * task.ipc, *task.data.image_shape)
        return torch.randn(shape, generator=task.seeds.generator("match", "start")).to(task.device)


def _labels(task: Task) -> Tensor:
    return torch.arange(task.classes).repeat_interleave(task.ipc)
