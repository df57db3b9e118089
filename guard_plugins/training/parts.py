"""A model trained by several processes, each of which has a part of every batch.

The batch is the configuration's. Each process takes some of its images, and draws random numbers for all of them: what
an image meets does not depend on the number of processes. Gradients are means over all processes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn

from guard_plugins.errors import ConfigError
from guard_plugins.networks.global_batchnorm import make_batchnorm_global, make_batchnorm_local, not_made_global
from guard_plugins.runtime.sharing.team import Team


@dataclass(frozen=True)
class Rows:
    """Which images of a batch are this process's: every ``of``-th, from number ``first``.

    Attributes:
        first: Number of the first, from 0.
        of: Number of processes.
        total: Images of the whole batch; read only where there are several processes.
    """

    first: int = 0
    of: int = 1
    total: int = 0

    @classmethod
    def of_team(cls, team: Team | None, total: int) -> Rows:
        """Return the rows of this process; all without a team."""
        return ALL if team is None else cls(team.rank, team.size, total)

    def take(self, whole: Tensor) -> Tensor:
        """Return the rows of a tensor (B, ...) that has one for every image of the batch."""
        return whole if self.of == 1 else whole[self.first :: self.of]

    def scaled(self, mean: Tensor) -> Tensor:
        """Return a loss whose mean over the processes is that of the whole batch.

        Args:
            mean: The mean over the images of this process, a scalar.
        """
        mine = len(range(self.first, self.total, self.of))
        return mean if mine * self.of == self.total or self.of == 1 else mean * (mine * self.of / self.total)


ALL: Final = Rows()
"""All images of a batch, whatever its size."""


class InParts(nn.Module):
    """A model that computes a part of a batch.

    Attributes:
        module: The model.
        processes: All that have a part; the curvature hook looks for them here.

    Args:
        module: The model.
        processes: The processes.
    """

    def __init__(self, module: nn.Module, processes: Team) -> None:
        super().__init__()
        self.module, self.processes = module, processes

    def forward(self, *inputs: Any) -> Any:
        """Return what the model returns."""
        return self.module(*inputs)


@contextlib.contextmanager
def in_parts(model: nn.Module, team: Team | None, batchnorm: Literal["global", "local"]) -> Iterator[nn.Module]:
    """Yield a model to train in a team, with its BatchNorm as asked; afterwards the model is as it was.

    Args:
        model: The model; without a team it is what is yielded.
        team: All processes.
        batchnorm: Whether BatchNorm takes statistics of the whole batch or of each process's part.

    Raises:
        ConfigError: If a layer's statistics cannot be those of the whole batch.
    """
    if team is None:
        yield model
        return
    require_parts(model, batchnorm)
    if batchnorm == "global":
        make_batchnorm_global(model, team)
    try:
        yield InParts(model, team)
    finally:
        make_batchnorm_local(model)


def require_parts(model: nn.Module, batchnorm: Literal["global", "local"]) -> None:
    """Return if the BatchNorm of a model can do what is asked.

    Raises:
        ConfigError: If a layer cannot take statistics of the whole batch, or if ``local`` has nothing to act on.
    """
    if batchnorm == "local" and not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules()):
        raise ConfigError(
            "--teacher.batchnorm local would do nothing: the teacher's network has no BatchNorm",
            do="Leave it out, or choose another network (--teacher.network).",
        )
    others = not_made_global(model) if batchnorm == "global" else []
    if others:
        raise ConfigError(
            "The teacher's network has layers that know one process's part of a batch only (--teacher.batchnorm)",
            seen=", ".join(others[:5]),
            do="Give --teacher.batchnorm local, or train the teacher in one process: --stop-after teacher.",
        )


@torch.no_grad()
def share_gradients(model: nn.Module, team: Team | None, loss: Tensor) -> Tensor:
    """Put means over all processes in the place of a model's gradients, and return the mean of the loss.

    Args:
        model: After its backward pass.
        team: All processes; nothing changes without.
        loss: The loss of this process.
    """
    if team is None:
        return loss
    mean = loss.detach().clone()
    team.average([mean, *(weight.grad for weight in model.parameters() if weight.grad is not None)])
    return mean


def share_statistics(model: nn.Module, team: Team | None) -> None:
    """Put means over all processes in the place of BatchNorm's running statistics; global ones are equal anyway."""
    if team is None:
        return
    layers = [layer for layer in model.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    kept = [statistic for layer in layers for statistic in (layer.running_mean, layer.running_var)]
    team.average([statistic for statistic in kept if statistic is not None])
