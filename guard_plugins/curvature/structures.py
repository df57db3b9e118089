"""Nested arguments and results of modules: visiting and replacing what they hold."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree


class Atom:
    """Base of classes that are never looked into, whatever they are made of."""

    __slots__ = ()


_ATOMS = (Tensor, int, float, str, type(None), Atom)


def map_leaves(change: Callable[[Any], Any], value: Any) -> Any:
    """Return ``value`` rebuilt with ``change`` applied to every leaf, in a fixed order.

    Containers are tuples, lists, dicts, everything registered with PyTorch's pytree (named tuples, model outputs of
    transformers, …), other dict subclasses and data classes; anything else is a leaf.
    """
    kind = type(value)
    if isinstance(value, _ATOMS):
        return change(value)
    if kind is tuple:
        return tuple([map_leaves(change, v) for v in value])
    if kind is list:
        return [map_leaves(change, v) for v in value]
    if kind is dict:
        return {k: map_leaves(change, v) for k, v in value.items()}
    return _map_other(change, value)


def _map_other(change: Callable[[Any], Any], value: Any) -> Any:
    rebuilt: Any
    kind = type(value)
    if kind in pytree.SUPPORTED_NODES:
        node = pytree.SUPPORTED_NODES[kind]
        children, context = node.flatten_fn(value)
        return node.unflatten_fn([map_leaves(change, v) for v in children], context)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return kind(*[map_leaves(change, v) for v in value])
    if isinstance(value, dict):
        rebuilt = copy.copy(value)
        for key, entry in value.items():
            rebuilt[key] = map_leaves(change, entry)
        return rebuilt
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        rebuilt = copy.copy(value)
        for field in dataclasses.fields(value):
            # object.__setattr__: the data class may be frozen, its copy is ours
            object.__setattr__(rebuilt, field.name, map_leaves(change, getattr(value, field.name)))
        return rebuilt
    return change(value)


def leaves_of(value: Any) -> list[Any]:
    """Return the leaves of ``value`` in the order ``map_leaves`` visits them."""
    found: list[Any] = []
    map_leaves(found.append, value)
    return found


def replace_leaves(value: Any, leaves: list[Any]) -> Any:
    """Return ``value`` with its leaves replaced by ``leaves``, given in the order ``map_leaves`` visits them."""
    fresh = iter(leaves)
    return map_leaves(lambda _: next(fresh), value)


def tensors_of(value: Any) -> list[Tensor]:
    """Return the tensors among the leaves of ``value``."""
    return [leaf for leaf in leaves_of(value) if isinstance(leaf, Tensor)]
