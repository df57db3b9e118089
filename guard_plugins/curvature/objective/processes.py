"""What the hook makes global where several processes have a part of a batch each: the sign of the batch's difference.

The term is |ℓ̄(x + z) − ℓ̄(x)| of the whole batch. DDP averages the gradients of the processes, so each must go along
s · (ℓ̄⁺ − ℓ̄) of its own part with the sign s of the mean over all parts. With signs of their own, the processes train
another objective: the mean of |·| over the parts, which is larger wherever the parts disagree.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from guard_plugins.curvature.objective.penalty import Outcome


@runtime_checkable
class Processes(Protocol):
    """Several processes that have a part of every batch each, where they talk otherwise than by a process group.

    A wrapper of a model that has them says so by an attribute ``processes``.
    """

    size: int

    def add(self, value: Tensor) -> None:
        """Put the sum over all processes in the place of ``value``."""


def group_of(modules: Iterable[nn.Module]) -> Any:
    """Return the processes of the first wrapper (DistributedDataParallel's process group), or None without one."""
    for module in modules:
        inner: nn.Module | None = module
        while isinstance(inner, nn.Module):
            if isinstance(inner, DistributedDataParallel):
                return inner.process_group
            if isinstance(processes := getattr(inner, "processes", None), Processes):
                return processes
            inner = getattr(inner, "_orig_mod", None)
    return None


def add_over(group: Any, value: Tensor) -> None:
    """Put the sum over a group in the place of a tensor.

    Args:
        group: A process group, :class:`Processes`, or None for all processes.
        value: This process's part; without a graph.
    """
    if isinstance(group, Processes):
        group.add(value)
    else:
        torch.distributed.all_reduce(value, group=group)


def mean_over(group: Any, value: Tensor) -> Tensor:
    """Return the mean of a tensor over the processes of a group, without a graph; itself where there is no group."""
    mean = value.detach().clone()
    if group is not None:
        add_over(group, mean)
        mean /= group.size if isinstance(group, Processes) else torch.distributed.get_world_size(group)
    return mean


def outcome_over(group: Any, outcome: Outcome) -> Outcome:
    """Return what was measured on the whole batch, given this process's part: every number is a mean over parts."""
    if group is None:
        return outcome
    numbers = (outcome.loss, outcome.term, outcome.gradient_norm, outcome.curvature)
    kind = torch.promote_types(outcome.loss.dtype, torch.float32)
    means = mean_over(group, torch.stack([number.detach().to(kind) for number in numbers]))
    return Outcome(*means.unbind())


def absolute(difference: Tensor, group: Any) -> Tensor:
    """Return a scalar whose mean over the processes is the absolute value of the mean difference, with its gradient.

    Args:
        difference: ℓ̄(x + z) − ℓ̄(x) of this process's part of the batch.
        group: The processes, or None for this one alone.
    """
    return difference.abs() if group is None else mean_over(group, difference).sign() * difference


def squared(difference: Tensor, group: Any) -> Tensor:
    """Return the same of the square of the mean difference."""
    if group is None:
        return difference.square()
    mean = mean_over(group, difference)
    return 2 * mean * difference - mean.square()
