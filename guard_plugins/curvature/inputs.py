"""Which argument of a model is x, and whether it is one the user means."""

from __future__ import annotations

import inspect
from collections import deque
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from guard_plugins.curvature.structures import leaves_of, tensors_of


def position_of_x(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], which: str | int | None
) -> int | None:
    """Return the place of x among the leaves of ``(args, kwargs)``, or None if there is no such tensor.

    Args:
        module: The model about to be called.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        which: Position or name of the argument, or key in a dict argument; None for the first floating-point tensor.
    """
    scope = (args, kwargs) if which is None else _argument(module, args, kwargs, which)
    candidates = {id(tensor) for tensor in tensors_of(scope) if _can_move(tensor)}
    return next((i for i, leaf in enumerate(leaves_of((args, kwargs))) if id(leaf) in candidates), None)


def _can_move(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and tensor.dim() > 0


def _argument(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], which: str | int) -> Any:
    if isinstance(which, int):
        return args[which] if -len(args) <= which < len(args) else None
    if which in kwargs:
        return kwargs[which]
    for holder in (*args, *kwargs.values()):
        if isinstance(holder, dict) and which in holder:
            return holder[which]
    names = list(inspect.signature(module.forward).parameters)
    return args[names.index(which)] if which in names and names.index(which) < len(args) else None


class FrozenCalls:
    """Remembers what modules without trainable weights returned lately.

    A head trained on a frozen backbone would have its *features* taken for x; this tells such a call apart from a
    teacher or an evaluation that merely ran beside the training.
    """

    def __init__(self) -> None:
        self._calls: deque[tuple[str, torch.Size, list[StorageWeakRef]]] = deque(maxlen=8)

    def note(self, module: nn.Module, x: Tensor, result: Any) -> None:
        """Remember that ``module`` mapped ``x`` to ``result`` without a gradient to its weights."""
        outputs = [StorageWeakRef(t.untyped_storage()) for t in tensors_of(result) if t.layout == torch.strided]
        self._calls.append((type(module).__name__, x.shape, outputs))

    def origin_of(self, x: Tensor) -> str | None:
        """Return the name of the module ``x`` seems to come from, or None.

        It does where x shares memory with such a result, or has the batch size of such a call's input but another
        number of dimensions or channels.
        """
        storage = StorageWeakRef(x.untyped_storage()) if x.layout == torch.strided else None
        for name, shape, outputs in self._calls:
            if any(storage == output and not output.expired() for output in outputs):
                return name
            other_kind = len(shape) != x.dim() or shape[1:2] != x.shape[1:2]
            if shape[:1] == x.shape[:1] and other_kind:
                return name
        return None

    def forget(self) -> None:
        """Forget every call."""
        self._calls.clear()
