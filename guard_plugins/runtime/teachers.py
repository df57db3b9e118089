"""Several teachers: how a method declares them, and how it gets them once they are trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from guard_plugins.errors import ConfigError

if TYPE_CHECKING:
    from guard_plugins.networks.base import Activation
    from guard_plugins.networks.normalised import Normalised


@dataclass(frozen=True, kw_only=True)
class TeacherSpec:
    """A teacher that a method wants trained; what is None is as in the section ``teacher``.

    Attributes:
        network: Its architecture.
        activation: Its activation function.
        seed: Numbers teachers of one network: each has weights and batches of its own. 0 has those of a single teacher.
        epochs: Passes over the real images.
        snapshots: Epochs after which its weights are kept; 0 is before the first step.
    """

    network: str | None = None
    activation: Activation | None = None
    seed: int = 0
    epochs: int | None = None
    snapshots: tuple[int, ...] = ()


@dataclass(frozen=True)
class TrainedTeacher:
    """A trained teacher.

    Attributes:
        spec: What it was declared as.
        model: In eval mode with frozen weights: pixels in [0, 1] in, logits out.
        read: Reads the weights of an epoch.
    """

    spec: TeacherSpec
    model: Normalised
    read: Callable[[int], dict[str, Tensor]]

    def at(self, epoch: int) -> dict[str, Tensor]:
        """Return the weights after ``epoch`` epochs, on the CPU, for ``model.load_state_dict`` of a network like it.

        Raises:
            ConfigError: If no snapshot of this epoch was declared.
        """
        if epoch not in self.spec.snapshots:
            raise ConfigError(
                f"There is no snapshot of epoch {epoch}", seen=f"declared: {self.spec.snapshots}",
                do="Name the epoch in `snapshots` of its TeacherSpec.",
            )  # fmt: skip
        return self.read(epoch)


@dataclass(frozen=True)
class Snapshots:
    """Keeps the weights of some epochs while a teacher is trained.

    Attributes:
        epochs: Which.
        keep: Stores the weights (CPU tensors by name) of an epoch.
    """

    epochs: Sequence[int]
    keep: Callable[[int, dict[str, Tensor]], None]

    def take(self, epoch: int, model: nn.Module) -> None:
        """Keep the weights of ``model`` if those of ``epoch`` are wanted."""
        if epoch in self.epochs:
            self.keep(epoch, {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()})


class MeanTeacher(nn.Module):
    """The mean of several teachers' logits.

    Args:
        teachers: The teachers, of one order of classes.
    """

    def __init__(self, teachers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.teachers = nn.ModuleList(teachers)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the mean of the logits, shape (B, K), on pixels (B, C, H, W) in [0, 1]."""
        return torch.stack([teacher(pixels) for teacher in self.teachers]).mean(dim=0)
