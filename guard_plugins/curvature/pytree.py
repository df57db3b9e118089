"""Nested arguments and results of modules: visiting and replacing what they hold."""

from __future__ import annotations

import copy
import dataclasses
from collections import UserDict, deque
from collections.abc import Callable, Iterable, Mapping
from types import FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any, Final

from torch import Size, Tensor, nn
from torch.utils import _pytree as pytree


class Atom:
    """Base of classes that are never looked into, whatever they are made of."""

    __slots__ = ()


_ATOMS = (Tensor, int, float, str, type(None), Atom, Size)  # PyTorch would make a size a plain tuple
_CLOSED = (*_ATOMS, nn.Module, type, ModuleType, FunctionType, MethodType)
_DEPTH: Final = 3  # how far into the attributes of a result's objects tensors are looked for


def map_leaves(change: Callable[[Any], Any], value: Any) -> Any:
    """Return ``value`` rebuilt with ``change`` applied to every leaf, in a fixed order.

    Containers are tuples, lists, dicts, everything registered with PyTorch's pytree (named tuples, model outputs of
    transformers, …), other kinds of dicts, data classes, attrs classes and namespaces; anything else is a leaf.
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
    kind = type(value)
    if kind in pytree.SUPPORTED_NODES:
        node = pytree.SUPPORTED_NODES[kind]
        children, context = node.flatten_fn(value)
        return node.unflatten_fn([map_leaves(change, v) for v in children], context)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        # past the class's own constructor, which may want more of its arguments (PackedSequence does)
        return tuple.__new__(kind, [map_leaves(change, v) for v in value])
    if isinstance(value, (dict, UserDict)):
        rebuilt = copy.copy(value)
        for key, entry in value.items():
            rebuilt[key] = map_leaves(change, entry)
        return rebuilt
    names = field_names(value)
    return change(value) if names is None else _map_fields(change, value, names)


def field_names(value: Any) -> list[str] | None:
    """Return the names of the fields of a data class, attrs class or simple namespace, None for anything else."""
    if isinstance(value, type):
        return None
    if isinstance(value, SimpleNamespace):
        return list(vars(value))
    if dataclasses.is_dataclass(value):
        return [field.name for field in dataclasses.fields(value)]
    described: Iterable[Any] | None = getattr(type(value), "__attrs_attrs__", None)
    return None if described is None else [attribute.name for attribute in described]


def _map_fields(change: Callable[[Any], Any], value: Any, names: list[str]) -> Any:
    rebuilt = copy.copy(value)
    for name in names:
        # object.__setattr__: the class may be frozen, the copy is ours
        object.__setattr__(rebuilt, name, map_leaves(change, getattr(value, name)))
    return rebuilt


def leaves_of(value: Any) -> list[Any]:
    """Return the leaves of ``value`` in the order ``map_leaves`` visits them."""
    if isinstance(value, Tensor):
        return [value]
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


def hand_back(given: Any, used: Any, own: Mapping[int, Any]) -> bool:
    """Write what a module put into the containers of ``used`` into those of ``given``; return whether there was any.

    Args:
        given: The loop's arguments.
        used: The same, rebuilt by ``map_leaves``, after the call.
        own: The loop's tensors by the identity of those that stood in their places.
    """
    before, after = _children(given), _children(used)
    if before is None or after is None:
        return False
    wrote = False
    for key, value in after.items():
        mine = own.get(id(value), value)
        rebuilt = key in before and type(before[key]) is type(value)
        if rebuilt and (_children(value) is not None or type(value) in pytree.SUPPORTED_NODES):
            wrote |= hand_back(before[key], value, own)  # nothing, where a class is only known to PyTorch
        elif not isinstance(given, tuple) and (key not in before or before[key] is not mine):
            _put(given, key, mine)
            wrote = True
    for key in reversed([key for key in before if key not in after]):
        del given[key]
        wrote = True
    return wrote


def _children(value: Any) -> dict[Any, Any] | None:
    if isinstance(value, _ATOMS):
        return None
    if isinstance(value, (dict, UserDict)):
        return dict(value)
    if isinstance(value, (list, tuple, deque)):
        return dict(enumerate(value))
    names = field_names(value)
    return None if names is None else {name: getattr(value, name) for name in names}


def _put(container: Any, key: Any, value: Any) -> None:
    if isinstance(container, (list, deque)) and key == len(container):
        container.append(value)
    elif isinstance(container, (dict, UserDict, list, deque)):
        container[key] = value
    else:
        object.__setattr__(container, key, value)


def contents_of(result: Any) -> list[Any]:
    """Return everything in a module's result, objects of unknown classes opened: their attributes in order.

    Only for reading: distributions, attrs classes and objects of one's own cannot be rebuilt, but their tensors can
    be found again in the result of a second call.
    """
    if isinstance(result, Tensor):
        return [result]
    found: list[Any] = []
    _open(result, found, set(), 0)
    return found


def _open(value: Any, found: list[Any], seen: set[int], depth: int) -> None:
    for leaf in leaves_of(value):
        attributes = None if isinstance(leaf, _CLOSED) or id(leaf) in seen else getattr(leaf, "__dict__", None)
        if attributes is None or depth == _DEPTH:
            found.append(leaf)
        else:
            seen.add(id(leaf))
            _open(dict(attributes), found, seen, depth + 1)
