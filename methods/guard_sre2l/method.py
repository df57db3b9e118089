"""The method SRe2L: recovery from the host's teacher; students learn from the teacher's labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from guard_plugins.config import RunConfig
from guard_plugins.data.distilled import DistilledSet
from guard_plugins.errors import ConfigError
from guard_plugins.method import Method, MethodConfig
from guard_plugins.networks.normalised import Normalised
from guard_plugins.runtime.task import Task
from guard_plugins.runtime.work import Work
from guard_sre2l.config import RecoverConfig, SRe2LConfig
from guard_sre2l.presets import PRESETS
from guard_sre2l.recovery import recover
from guard_sre2l.statistics import batchnorm_layers


class SRe2L(Method):
    """Squeeze, recover, relabel (Yin, Xing & Shen, NeurIPS 2023, arXiv 2306.13092)."""

    name = "sre2l"
    summary = "images whose BatchNorm statistics match those a teacher saw in training (arXiv 2306.13092)"
    rehearsable = True
    previews = True
    Config: ClassVar[type[MethodConfig]] = SRe2LConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS
    config: SRe2LConfig

    @classmethod
    def idle(cls, config: RunConfig) -> Mapping[str, str]:
        """Return the options that do nothing beside the others."""
        options: RecoverConfig = config.recover  # type: ignore[attr-defined]
        found = {}
        if options.start == "noise":
            found["recover.patch_scale"] = "only --recover.start real takes patches"
        if options.r_bn == 0:
            found["recover.first_bn"] = "--recover.r-bn 0 leaves the statistics out"
        return found

    def check(self, task: Task, teacher: Normalised | None) -> None:
        """Refuse a teacher without BatchNorm statistics.

        Raises:
            ConfigError: If the teacher has no BatchNorm layer with running statistics.
        """
        if teacher is not None and not batchnorm_layers(teacher):
            raise ConfigError(
                f"The method {self.name!r} matches BatchNorm statistics, but the teacher has no BatchNorm layer",
                seen=f"--teacher.network {task.config.teacher.network}",
                do="Choose a teacher with BatchNorm, such as resnet18, small-resnet or convnet3-bn.",
            )

    def work(self, task: Task) -> Sequence[Work]:
        """Return the batches to recover."""
        options = self.config.recover
        each, copies = (task.classes * task.ipc, 1) if options.mix_copies else (task.classes, task.ipc)
        batches = copies * -(-each // options.batch)
        return (Work("recover", batches, min(options.batch, each), options.iterations),)

    def distill(self, task: Task, teacher: Normalised | None) -> DistilledSet:
        """Recover ``task.ipc`` images of every class from the teacher."""
        assert teacher is not None
        return recover(task, teacher, self.config.recover, crop_scale=self.crop_scale)

    def crop_scale(self, step: int, total: int) -> float:
        """Return the smallest area share of the crop at ``step`` of ``total``; constant in SRe2L."""
        return self.config.recover.crop_scale
