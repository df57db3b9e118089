"""The method EDC: recovery from several backbones, each trained by the host under a curvature hook of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from guard_edc.config import EDCConfig
from guard_edc.presets import PRESETS
from guard_edc.recovery import Backbone, recover
from guard_edc.statistics import collect, layers_of
from guard_plugins import DistilledSet, Method, MethodConfig, Normalised, RunConfig, Task, TeacherSpec
from guard_plugins.data.classwise import Classwise
from guard_plugins.errors import ConfigError, DataError


class EDC(Method):
    """Images whose layer statistics are, in several backbones, those of real images and of their own classes.

    Shao et al., "Elucidating the Design Space of Dataset Condensation" (NeurIPS 2024, arXiv 2404.13733), on top of
    G-VBSM (CVPR 2024, arXiv 2311.17950). Students learn from the mean of the backbones' logits.
    """

    name = "edc"
    summary = "layer statistics of several backbones, matched class by class (arXiv 2404.13733)"
    rehearsable = True
    previews = True
    Config: ClassVar[type[MethodConfig]] = EDCConfig
    defaults: ClassVar[Mapping[str, Any]] = {"student": {"protocol": "edc"}}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS
    labels: ClassVar[Literal["mean"]] = "mean"
    networks: ClassVar[tuple[str, ...]] = ("edc.backbones",)
    config: EDCConfig

    @classmethod
    def idle(cls, config: RunConfig) -> Mapping[str, str]:
        """Return the options that do nothing beside the others."""
        options = config.edc  # type: ignore[attr-defined]
        found: dict[str, str] = {}
        if not options.flatness:
            found |= dict.fromkeys(
                ("edc.flatness_decay", "edc.flatness_temperature"), "--edc.flatness 0 leaves that distance out"
            )
        if not options.weight:
            found |= dict.fromkeys(
                ("edc.first", "edc.alpha", "edc.momentum"), "--edc.weight 0 leaves the statistics out"
            )
        return found

    def teachers(self) -> Sequence[TeacherSpec]:
        """Return the backbones: the network of the section ``teacher``, and those of the option."""
        others = enumerate(self.config.edc.backbones, start=1)
        return (TeacherSpec(), *(TeacherSpec(network=name, seed=number) for number, name in others))

    def check(self, task: Task, teacher: Normalised | None) -> None:
        """Refuse networks without a layer to match, and classes without images.

        Raises:
            ConfigError: If a backbone has neither convolutions nor BatchNorm.
            DataError: If a class has no training image.
        """
        names = (task.config.teacher.network, *self.config.edc.backbones)
        for name in names:
            if not layers_of(task.network(name, stage="edc/check").network):
                raise ConfigError(
                    f"EDC matches inputs of convolutions and BatchNorm, but the network {name} has none",
                    do="Choose other networks (--teacher.network, --edc.backbones).",
                )
        counts = torch.bincount(task.data.train.labels, minlength=task.classes)
        if not counts.all():
            empty = task.data.classes[int(counts.argmin())]
            raise DataError(f"The class {empty!r} has no training image", do="Remove the class, or add images to it.")

    def distill(self, task: Task, teacher: Normalised | None) -> DistilledSet:
        """Return `task.ipc` images of every class.

        Raises:
            TrainingError: If the loss stops being finite.
        """
        options, backbones = self.config.edc, []
        for number, trained in enumerate(task.teachers):
            real = collect(task, trained.model, batch=options.batch, first=options.first, stage=f"statistics/{number}")
            kept = torch.zeros(len(real.overall), device=task.device)
            backbones.append(Backbone(trained.model, real, kept))
        labels = torch.arange(task.classes).repeat_interleave(task.ipc)
        start = self._start(task, labels).to(task.device)
        distilled = recover(task, backbones, start, labels.to(task.device), options)
        task.report(backbones=len(backbones))
        return distilled

    def _start(self, task: Task, labels: Tensor) -> Tensor:
        """Return the first iterate in pixels, class by class, shape (N, C, H, W)."""
        generator = task.seeds.generator("edc", "start")
        if self.config.edc.start == "noise":
            noise = torch.randn((len(labels), *task.data.image_shape), generator=generator)
            mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (task.data.mean, task.data.std))
            return (noise * std + mean).clamp(0, 1)
        real = Classwise(task.data.train, task.classes)
        return torch.cat([real.draw(label, task.ipc, generator) for label in range(task.classes)])
