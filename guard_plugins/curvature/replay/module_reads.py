"""What a module takes from elsewhere than its arguments: tensors the loop set on it, or that it finds by a closure."""

from __future__ import annotations

import itertools
from collections import OrderedDict, deque
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from guard_plugins.curvature.messages import about_inputs, about_losses
from guard_plugins.curvature.record.arguments import spent, tensors_in
from guard_plugins.curvature.record.functions import ASKING, DETACHED, PROPERTIES, SHAPE_ONLY
from guard_plugins.curvature.record.graph import Lean, ModuleCall, Node
from guard_plugins.curvature.record.ledger import TensorLedger
from guard_plugins.curvature.replay.routes import is_dependent
from guard_plugins.curvature.state.held import ENTRIES
from guard_plugins.curvature.state.module_state import INTERNAL
from guard_plugins.curvature.state.wrappers import is_compiled

_PLAIN: Final = frozenset({bool, int, float, str, type(None), torch.dtype, torch.device, OrderedDict, type})
_HELD: Final = frozenset({dict, list, tuple, set, deque})
_ABOUT: Final = ASKING & {
    "__len__", "dim", "element_size", "get_device", "is_complex", "is_contiguous", "is_floating_point", "numel", "size",
    "storage_offset", "stride",
}  # fmt: skip


def set_on(module: nn.Module, ledger: TensorLedger) -> list[Tensor]:
    """Return the tensors the loop set on ``module``, or put into a list or dict of it.

    Those the module keeps itself are in no ledger. Of those in containers, which may be logs, only tensors with a graph
    of their own are returned: whether x is among the others is seen where they are read.

    Raises:
        HookError: If an attribute of the module is a recorded tensor.
    """
    found = []
    for part in module.modules():
        for name, value in part.__dict__.items():
            if type(value) in _PLAIN:
                continue
            if isinstance(value, Tensor):
                found += _set(value, ledger, module, type(part).__name__, name)
            elif type(value) in _HELD and value and name not in INTERNAL:
                found += _with_graphs(value, ledger)
    return found


def _set(value: Tensor, ledger: TensorLedger, module: nn.Module, owner: str, name: str) -> list[Tensor]:
    known = ledger.get(value)
    if known is None or (known.node is not None and (_made_by(known.node, module) or spent(known.node) is not None)):
        return []
    if known.node is not None and not isinstance(known.node, Lean):
        raise about_inputs.attribute_of_x(owner, name)
    return [value]


def _with_graphs(container: Any, ledger: TensorLedger) -> list[Tensor]:
    entries: Iterable[Any] = container.values() if type(container) is dict else container
    tensors = [t for t in itertools.islice(entries, ENTRIES) if isinstance(t, Tensor) and t.requires_grad]
    known = ((t, ledger.get(t)) for t in tensors)
    return [t for t, entry in known if entry is not None and entry.node is None]


def _made_by(node: Node | None, module: nn.Module) -> bool:
    call = getattr(node, "call", node)
    return isinstance(call, ModuleCall) and call.module is module


def is_closed(module: nn.Module) -> bool:
    """Return whether what a module calls cannot be looked at: it is scripted or compiled."""
    return isinstance(module, torch.jit.ScriptModule) or is_compiled(module)


class Reads:
    """Looks, in a replay, for tensors that depend on x and reach a module otherwise than as its arguments.

    Args:
        ledger: The notes of the session.
        sources: The recorded inputs.
        written: Tensors of modules that the loop has written since, so that no module may read them either.
    """

    def __init__(self, ledger: TensorLedger, sources: Iterable[Any], written: Iterable[Tensor] = ()) -> None:
        self._ledger, self._sources = ledger, list(sources)
        self.written = {id(tensor) for tensor in written}

    def inside(self, call: ModuleCall) -> AbstractContextManager[Any]:
        """Return a context in which the functions that a module calls are looked at."""
        return nullcontext() if is_closed(call.module) else _Mode(self, type(call.module).__name__)

    def look(self, tensor: Tensor, module: str) -> None:
        """Raise if ``tensor`` depends on x.

        Raises:
            HookError: If it does.
        """
        known = self._ledger.get(tensor)
        if known is None:
            return
        recorded = known.node is not None and spent(known.node) is None
        if recorded or any(is_dependent(known, source) for source in self._sources):
            raise about_inputs.read_inside(module, f"a tensor of shape {tuple(tensor.shape)}")

    def look_for_written(self, function: Any, tensors: Iterable[Tensor]) -> None:
        """Raise if a function that takes more than the shape of a tensor is given one that was written.

        Raises:
            HookError: If it is.
        """
        name = getattr(function, "__name__", "")
        if name == "__get__":
            name = getattr(getattr(function, "__self__", None), "__name__", "")
            if name != "data" and name not in PROPERTIES:
                return
        for tensor in tensors if name not in SHAPE_ONLY and name not in _ABOUT else ():
            if id(tensor) in self.written:
                raise about_losses.written_since(tuple(tensor.shape))


class _Mode(TorchFunctionMode):
    def __init__(self, reads: Reads, module: str) -> None:
        super().__init__()
        self._reads, self._module = reads, module

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.compiler.is_compiling():
            return func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if self._reads.written:
            self._reads.look_for_written(func, tensors_in(args, kwargs or {}))
        if name == "__get__":
            name = getattr(getattr(func, "__self__", None), "__name__", "")
            looked = name in PROPERTIES
        else:
            looked = name not in ASKING and name not in DETACHED and name not in SHAPE_ONLY
        if looked and torch.is_grad_enabled():
            for tensor in tensors_in(args, kwargs or {}):
                self._reads.look(tensor, self._module)
        return func(*args, **(kwargs or {}))
