"""The recorded inputs: tensors a model received as x, and tensors the loop said are x."""

from __future__ import annotations

import functools
import itertools
import sys
import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from guard_plugins.curvature.messages import about_inputs
from guard_plugins.curvature.record.graph import Source, Watched, now
from guard_plugins.curvature.record.known import Known, is_data
from guard_plugins.curvature.record.ledger import TensorLedger
from guard_plugins.curvature.record.wrapped import base_of
from guard_plugins.curvature.state.leaves import is_marked, mark_leaf
from guard_plugins.curvature.state.pytree import leaves_of, map_leaves
from guard_plugins.errors import HookError


class Sources:
    """Makes recorded inputs; a tensor given to several calls is one source.

    Args:
        ledger: The notes of the session.

    Attributes:
        said_by_watching: Whether the loop uses ``hook.watch``, so that nothing else is x.
    """

    def __init__(self, ledger: TensorLedger) -> None:
        self._ledger = ledger
        self.said_by_watching = False
        self._groups = itertools.count()
        self._fed: weakref.WeakSet[nn.Module] = weakref.WeakSet()

    def taken(self, x: Tensor, module: nn.Module, name: str, *, listed: bool, said: bool) -> Source:
        """Return the source for ``x``, which ``module`` received.

        Args:
            x: The tensor.
            module: The model.
            name: What the model calls the argument.
            listed: Whether x is an element of a list.
            said: Whether the user named the model or the input, so that features are meant where they are given.
        """
        if (problem := unusable(x, name)) is not None:
            raise problem
        known = self._ledger.of(x)
        features = "" if said else known.features
        if not features:
            self._fed.add(module)
        title = f"argument {name} {tuple(x.shape)} of {type(module).__name__}"
        source = self._source(x, known, title)
        source.rows = not (listed and unbatched([x]))
        source.features = features if module not in self._fed else ""
        return source

    def watched(self, value: Any, *, joint: bool, by_sample: bool | None) -> Any:
        """Return ``value`` with every float tensor as a recorded one.

        Raises:
            HookError: If there is none, or one cannot be x.
        """
        tensors = [leaf for leaf in leaves_of(value) if isinstance(leaf, Tensor) and is_data(leaf)]
        if not tensors:
            raise about_inputs.cannot_watch(f"{type(value).__name__} without a floating-point tensor")
        self.said_by_watching = True
        listed = isinstance(value, (list, tuple))
        rows = not (unbatched(tensors) if listed and by_sample is None else bool(by_sample))
        group = next(self._groups) if joint else None

        def change(leaf: Any) -> Any:
            return self._watch(leaf, rows, group) if isinstance(leaf, Tensor) and is_data(leaf) else leaf

        return map_leaves(change, value)

    def as_received(self, args: Any, kwargs: Any) -> Any:
        """Return arguments as the module received them when the call was recorded: with leaves in place of x."""

        def change(leaf: Any) -> Any:
            known = self._ledger.get(leaf) if isinstance(leaf, Tensor) else None
            source = None if known is None or known.token.source is None else known.token.source()
            return leaf if source is None or source.watched else source.leaf

        return map_leaves(change, (args, kwargs))

    def _watch(self, x: Tensor, rows: bool, group: int | None) -> Tensor:
        known = self._ledger.of(x)
        if isinstance(known.node, Watched):
            return x
        earlier = self._watched_before(known, x, rows, group)
        if earlier is not None:
            return earlier
        if x.requires_grad or known.node is not None:
            raise about_inputs.cannot_watch(f"a tensor of shape {tuple(x.shape)} that requires a gradient already")
        name = f"the watched tensor {tuple(x.shape)}"
        leaf, base = leaf_of(x, name), weakref.ref(base_of(x))
        self._ledger.mark(leaf, Watched(now(), known.token, leaf._version, known.ancestors, name, rows, group, base))
        known.leaf = weakref.ref(leaf)
        return leaf

    def _watched_before(self, known: Known, x: Tensor, rows: bool, group: int | None) -> Tensor | None:
        """Return what an earlier call made of the same numbers, so that x watched twice is one input with one z."""
        leaf = None if known.leaf is None else known.leaf()
        entry = None if leaf is None else self._ledger.get(leaf)
        if leaf is None or entry is None or not isinstance(entry.node, Watched) or not _same(leaf, x):
            return None
        noted = entry.node
        same = (noted.version, noted.rows, noted.group) == (leaf._version, rows, group)
        return leaf if same else None

    def _source(self, x: Tensor, known: Known, name: str) -> Source:
        alive = None if known.token.source is None else known.token.source()
        unchanged = alive is not None and alive.version == alive.leaf._version and _same(alive.leaf, x)
        if alive is not None and unchanged and not alive.watched:
            return alive
        leaf = leaf_of(x, name)
        source = Source(now(), leaf, known.token, leaf._version, known.ancestors, name)
        source.mark = mark_leaf(leaf)
        source.base, source.cut = weakref.ref(base_of(x)), known.cut
        known.token.source = weakref.ref(source)
        return source


def _same(leaf: Tensor, x: Tensor) -> bool:
    """Return whether a leaf made of x still shows its numbers: ``x.data = batch`` leaves the counters alone."""
    return x.is_inference() or (leaf.shape == x.shape and leaf.data_ptr() == x.data_ptr())


def leaf_of(x: Tensor, name: str) -> Tensor:
    """Return a tensor with the numbers of ``x`` that requires a gradient.

    Raises:
        HookError: If x is sparse, nested or quantised.
    """
    problem = unusable(x, name)
    if problem is not None:
        raise problem
    # a tensor made under inference_mode cannot require a gradient, its copy can
    return (x.clone() if x.is_inference() else x.detach()).requires_grad_()


def unusable(x: Tensor, name: str) -> HookError | None:
    """Return the error for a tensor that cannot be moved, or None."""
    if x.layout != torch.strided or x.is_nested or x.is_quantized:
        kind = "nested" if x.is_nested else "quantised" if x.is_quantized else str(x.layout).removeprefix("torch.")
        return about_inputs.unusable_input("the model", name, f"a {kind} tensor")
    return None


def unbatched(tensors: list[Tensor]) -> bool:
    """Return whether the tensors of a list look like samples: of one or three dimensions, or of unequal length."""
    return all(t.dim() in (1, 3) for t in tensors) or len({len(t) for t in tensors}) > 1


def release(source: Source) -> None:
    """Let go of a batch that no call, module or loop needs; the graph of a kept loss would hold it for ever."""
    source.mark = None
    if not source.users and not source.watched and is_marked(source.leaf) and sys.getrefcount(source.leaf) <= _alone():
        source.leaf.data = source.leaf.data.new_empty(0)


@functools.cache
def _alone() -> int:
    """Return the references to a leaf that nobody has but its record, the caller who asks, and its graph."""
    held = _Held(torch.zeros(1, requires_grad=True))
    graph = held.leaf * 1
    return sys.getrefcount(held.leaf) if graph.requires_grad else 0


@dataclass(slots=True)
class _Held:
    leaf: Tensor
