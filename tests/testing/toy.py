"""A method that keeps every promise, to be broken one promise at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from torch import Tensor
from torch.nn import functional as F

from guard_plugins import DistilledSet, Method, MethodConfig, Task
from guard_plugins.networks.normalised import Normalised
from guard_plugins.runtime.loop import LoopState


class ToySection(BaseModel):
    """A section of options."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rounds: PositiveInt = Field(6, description="steps of the loop")
    brightness: float | None = Field(None, description="something that may be unset")
    sizes: tuple[int, ...] = Field((1, 2), description="several numbers")
    strict: bool = Field(True, description="a switch")


class ToyConfig(MethodConfig):
    """The toy's options."""

    toy: ToySection = Field(ToySection(), description="the toy")


class Toy(Method):
    """Descends the teacher's loss on noise images."""

    name = "toy"
    summary = "a toy that keeps its promises"
    Config: ClassVar[type[MethodConfig]] = ToyConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"digits": {"toy": {"rounds": 4}}}
    config: ToyConfig

    def distill(self, task: Task, teacher: Normalised | None) -> DistilledSet:
        """Return the images."""
        assert teacher is not None
        labels = torch.arange(task.classes).repeat(task.ipc)
        images = torch.rand((len(labels), *task.data.image_shape), generator=task.seeds.generator("toy", "start"))
        for step in task.steps("toy", self.config.toy.rounds, state=LoopState(images=images)):
            images.copy_(self.step(task, teacher, images, labels))
            step.log(mean=images.mean())
        return DistilledSet(images, labels)

    def step(self, task: Task, teacher: Normalised, images: Tensor, labels: Tensor) -> Tensor:
        """Return the images one noisy gradient step further."""
        x = images.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(teacher(x), labels), [x])
        return (images - gradient + 0.01 * torch.randn_like(images)).clamp(0, 1)
