"""Noting how tensors follow from one another in the loop: loss functions, sums, reshapes, writes, masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from guard_plugins.curvature.record.arguments import copy_of, copyable, linked, register, tensors_in, without_record
from guard_plugins.curvature.record.functions import (
    ASKING,
    CONSTANT,
    DETACHED,
    DRAWN,
    PROPERTIES,
    RANDOM,
    SHAPE_ONLY,
    STATISTICS,
    WATCHING,
    may_write,
)
from guard_plugins.curvature.record.graph import Lean, Node, Operation, Output, Unrepeatable, WrittenInto, now
from guard_plugins.curvature.record.known import Known, version_of
from guard_plugins.curvature.record.ledger import TensorLedger
from guard_plugins.curvature.state.pytree import form_of, leaves_of, replace_leaves, tensors_of
from guard_plugins.curvature.state.snapshots import Autocast, RandomState

_BACKWARD: Final = frozenset((Tensor.backward, torch.autograd.backward, torch.autograd.grad))

_PLAIN_WRITE: Final = "recorded tensors were written into a view of a plain tensor, or into one with a graph of its own"
_DATA_WRITE: Final = "a tensor on the way to the loss was written through its .data"
_LATER_GRADIENT: Final = "a gradient was taken inside the loop with create_graph=True, and the loss used it"

Function = Callable[..., Any]


class Tracer:
    """Runs the torch functions the loop calls, and notes in the ledger what their results come from.

    Args:
        ledger: The notes of the session.
    """

    def __init__(self, ledger: TensorLedger) -> None:
        self._ledger = ledger

    def run(self, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run ``function`` as the loop asked, noting how its results were made."""
        name = getattr(function, "__name__", "")
        if name == "__get__":
            return self._property(function, args, kwargs)
        tensors = tensors_in(args, kwargs)
        if not tensors:
            return self._made_from_nothing(name, function, args, kwargs)
        if function in _BACKWARD:
            return self._differentiated(function, args, kwargs)
        ledger = self._ledger
        known = [ledger.get(tensor) for tensor in tensors]
        if any(entry is not None and entry.node is not None for entry in known):
            return self._recorded(name, function, args, kwargs, tensors, known)
        return self._plain(name, function, args, kwargs, tensors, known)

    def _made_from_nothing(self, name: str, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = function(*args, **kwargs)
        if name in CONSTANT:
            self._ledger.note_constants([result])
        return result

    def _property(self, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name = getattr(getattr(function, "__self__", None), "__name__", "")
        if name not in PROPERTIES and name != "data":
            if name == "grad_fn" and self._ledger.node(args[0]) is not None:
                self._ledger.looked_into = True
            return function(*args, **kwargs)
        if name == "data":
            data = function(*args, **kwargs)
            entry = self._ledger.of(data)
            entry.shadow = self._ledger.of(args[0]).ref
            self._ledger.note_cut([data], [self._ledger.get(args[0])])
            return data
        known = [self._ledger.get(args[0])]
        if known[0] is not None and known[0].node is not None:
            return self._recorded(name, function, args, kwargs, [args[0]], known)
        return self._plain(name, function, args, kwargs, [args[0]], known)

    def _differentiated(self, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = function(*args, **kwargs)
        for tensor in tensors_of(result):
            if tensor.grad_fn is not None:
                self._ledger.mark(tensor, Unrepeatable(now(), _LATER_GRADIENT))
        return result

    def _recorded(
        self,
        name: str,
        function: Function,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        tensors: list[Tensor],
        known: Sequence[Known | None],
    ) -> Any:
        if name in WATCHING or (name == "__set__" and function == Tensor.data.__set__):  # type: ignore[attr-defined]
            self._break(tensors[0], f"{'.data was set' if name == '__set__' else name + '() was called'} on it")
            return function(*args, **kwargs)
        if name in ASKING or name in DETACHED or name in DRAWN or name == "__set__" or not torch.is_grad_enabled():
            if name == "detach_":
                self._ledger.forget(tensors[0])
            result = function(*args, **kwargs)
            if name not in ASKING and name not in DRAWN:
                self._ledger.note_cut(tensors_of(result), known)
            if name in DRAWN:
                self._ledger.note_constants([result])
            return result
        ledger = self._ledger
        nodes = {id(tensor): ledger.node(tensor) for tensor in tensors}
        random = RandomState.save(t.device for t in tensors) if name in RANDOM else None
        versions = [(t, version_of(t)) for t in tensors] if may_write(name, kwargs) else []
        shadows = [t for t, k in zip(tensors, known, strict=True) if k is not None and k.shadow is not None]
        if versions and kwargs.get("out") is None and nodes[id(tensors[0])] is None and copyable(tensors[0]):
            ledger.note_derived([before := tensors[0].detach().clone()], tensors[:1], known[:1], cut=False)
            nodes[id(tensors[0])] = copy_of(before)
        call = self._operation(function, args, kwargs, tensors, nodes, random)
        result = function(*args, **kwargs)
        if isinstance(call, Operation):
            call.stamps = [version_of(t) for t in call.plain] if name not in STATISTICS else []
            call.form = form_of(result)
        self.mark_written(call, versions, nodes)
        if versions and shadows:
            self._written_through_data(tensors[0])
        self.mark_results(call, leaves_of(result), tensors)
        return result

    def _operation(
        self,
        function: Function,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        tensors: list[Tensor],
        nodes: dict[int, Node | None],
        random: RandomState | None,
    ) -> Node:
        simple = without_record(nodes.values())
        if simple is not None:
            return simple
        leaves = leaves_of((args, kwargs))
        kept = [nodes.get(id(leaf)) or leaf for leaf in leaves]
        needs, plain = linked(kept)
        autocast = Autocast.save(tensors[0].device.type)
        again_args, again_kwargs = replace_leaves((args, kwargs), kept)
        call = Operation(now(), again_args, again_kwargs, needs, plain, autocast, function, random)
        register(call)
        return call

    def mark_results(
        self, call: Node, leaves: list[Any], inputs: Sequence[Tensor] = (), *, returned: Sequence[Tensor] = ()
    ) -> None:
        """Mark the tensors in the result of ``call``; an input handed back unchanged keeps its own record.

        Args:
            call: What made the result.
            leaves: The tensors and other things in it.
            inputs: The tensors it was given.
            returned: Those that are as they were, and stay unrecorded if they are among the results.
        """
        given, plain = {id(tensor) for tensor in inputs}, {id(tensor) for tensor in returned}
        for place, leaf in enumerate(leaves):
            if not isinstance(leaf, Tensor) or id(leaf) in plain:
                continue
            if id(leaf) in given and self._ledger.node(leaf) is not None:
                continue
            self._ledger.mark(leaf, call if isinstance(call, (Lean, Unrepeatable)) else Output(now(), call, place))

    def mark_written(self, call: Node, versions: list[tuple[Tensor, int]], nodes: dict[int, Node | None]) -> None:
        """Mark the tensors ``call`` wrote into: those whose version counter is not the one in ``versions`` any more."""
        for target, version in versions:
            if version_of(target) == version:
                continue
            views = [(view, known.node) for view, known in self._ledger.sharing(target) if known.stamp == version]
            own = nodes.get(id(target))
            # a plain tensor that a plain view was written through is no plain one any more
            whole = [(target._base, None)] if own is None and target._base is not None and not views else []
            for tensor, node in [(target, own), *views, *whole]:
                self._ledger.mark(tensor, _written(call, node))

    def _plain(
        self,
        name: str,
        function: Function,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        tensors: list[Tensor],
        known: Sequence[Known | None],
    ) -> Any:
        result = function(*args, **kwargs)
        if name == "__set__" and function == Tensor.data.__set__:  # type: ignore[attr-defined]
            self._ledger.of(tensors[0]).written = now()
            self._ledger.data_written = True
        if name in ASKING or name == "__set__":
            return result
        if name in SHAPE_ONLY and name != "new_tensor":
            self._ledger.note_constants([result])
            return result
        writes = may_write(name, kwargs)
        if writes and known[0] is not None and known[0].shadow is not None:
            self._written_through_data(tensors[0])
        outputs = [result] if isinstance(result, Tensor) else tensors_of(result)
        if writes:
            outputs.append(tensors[-1] if kwargs.get("out") is not None else tensors[0])
        self._ledger.note_derived(outputs, tensors, known, cut=name in DETACHED)
        if known[0] is not None and known[0].shadow is not None:
            self._views_of_data(outputs, tensors[0], known[0].shadow)
        return result

    def note_custom(self, args: tuple[Any, ...], result: Any) -> None:
        """Note what the results of a custom ``autograd.Function`` come from; they are not made again."""
        inputs = tensors_in(args, {})
        self._ledger.note_derived(tensors_of(result), inputs, [self._ledger.get(t) for t in inputs], cut=False)

    def _views_of_data(self, outputs: list[Tensor], data: Tensor, shadow: Any) -> None:
        for output in outputs:
            if output is not data and output.untyped_storage().data_ptr() == data.untyped_storage().data_ptr():
                self._ledger.of(output).shadow = shadow

    def _written_through_data(self, data: Tensor) -> None:
        entry = self._ledger.get(data)
        target = entry.shadow() if entry is not None and entry.shadow is not None else None
        if target is None:
            return
        self._ledger.of(target).written = now()
        self._ledger.data_written = True
        self._break(target, _DATA_WRITE)

    def _break(self, tensor: Tensor, why: str) -> None:
        if self._ledger.node(tensor) is not None:
            self._ledger.mark(tensor, Unrepeatable(now(), why))


def _written(call: Node, target: Node | None) -> Node:
    """Return the node of a tensor that ``call`` wrote into, or into what it is a view of."""
    if isinstance(call, (Lean, Unrepeatable)):
        return call
    return WrittenInto(now(), call, Unrepeatable(now(), _PLAIN_WRITE) if target is None else target)
