"""What the hook makes global under DistributedDataParallel: the sign of the batch's difference.

The term is |ℓ̄(x + z) − ℓ̄(x)| of the whole batch. DDP averages the gradients of the processes, so each must go along
s · (ℓ̄⁺ − ℓ̄) of its own part with the sign s of the mean over all parts. With signs of their own, the processes train
another objective: the mean of |·| over the parts, which is larger wherever the parts disagree.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


def group_of(modules: Iterable[nn.Module]) -> Any:
    """Return the process group of the first DistributedDataParallel wrapper, or None where there is none."""
    for module in modules:
        inner: nn.Module | None = module
        while isinstance(inner, nn.Module):
            if isinstance(inner, DistributedDataParallel):
                return inner.process_group
            inner = getattr(inner, "_orig_mod", None)
    return None


def mean_over(group: Any, value: Tensor) -> Tensor:
    """Return the mean of a scalar over the processes of a group, without a graph; itself where there is no group."""
    mean = value.detach().clone()
    if group is not None:
        torch.distributed.all_reduce(mean, group=group)
        mean /= torch.distributed.get_world_size(group)
    return mean


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
