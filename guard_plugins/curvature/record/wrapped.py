"""The tensor beneath another: what a view looks into, what a transform of ``torch.func`` wraps."""

from __future__ import annotations

import torch
from torch import Tensor


def base_of(tensor: Tensor) -> Tensor:
    """Return what ``tensor`` is a view of, or itself; a detached tensor is no view."""
    return tensor if tensor._base is None else tensor._base


def bare(tensor: Tensor) -> Tensor:
    """Return the ordinary tensor within the wrappers of ``torch.func``."""
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return tensor


def in_gradient_transform() -> bool:
    """Return whether a transform at work is one of gradients."""
    functorch = torch._C._functorch
    kinds = (functorch.TransformType.Grad, functorch.TransformType.Jvp)
    return any(one.key() in kinds for one in functorch.get_interpreter_stack() or ())
