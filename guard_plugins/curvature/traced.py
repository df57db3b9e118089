"""The tensor subclass that follows what a loop computes from a model's output."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from guard_plugins.curvature import active
from guard_plugins.curvature.recipes import Node

_BACKWARD = (Tensor.backward, torch.autograd.backward, torch.autograd.grad)


class Traced(Tensor):
    """A tensor that depends on a recorded input; operations on it are noted while a hook is active.

    Attributes:
        recipe: How the tensor was made.
        stamp: Version counter of the tensor when ``recipe`` was noted; a later one means it was written since.
    """

    recipe: Node
    stamp: int

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.compiler.is_compiling():
            return super().__torch_function__(func, types, args, kwargs)
        listener = active.current()
        if listener is not None and not listener.quiet():
            if func in _BACKWARD:
                return listener.backward(func, args, kwargs)
            return listener.operation(func, args, kwargs)
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **kwargs)

    # These four would otherwise meet subclass checks in PyTorch, or write a private class into a file.
    def __format__(self, spec: str) -> str:
        return str(strip(self).__format__(spec))

    def __repr__(self, **options: Any) -> str:  # type: ignore[override]
        return str(strip(self).__repr__(**options))

    def __reduce_ex__(self, protocol: Any) -> Any:
        return strip(self).__reduce_ex__(protocol)

    def __deepcopy__(self, memo: Any) -> Any:
        return strip(self).__deepcopy__(memo)


def strip(value: Any) -> Any:
    """Return a recorded tensor as a plain one (sharing data and graph), anything else unchanged."""
    if not isinstance(value, Traced):
        return value
    with torch._C.DisableTorchFunctionSubclass():
        return value.as_subclass(Tensor)


def recipe_of(value: Any) -> Node | None:
    """Return the recipe of a recorded tensor, or None for anything else."""
    return value.__dict__.get("recipe") if isinstance(value, Traced) else None


def mark(tensor: Tensor, recipe: Node) -> Traced:
    """Return ``tensor`` as a recorded one; call it with torch functions of subclasses disabled."""
    traced = tensor if isinstance(tensor, Traced) else tensor.as_subclass(Traced)
    traced.recipe, traced.stamp = recipe, traced._version
    return traced
