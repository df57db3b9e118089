"""Nested arguments and results of modules: visiting and replacing what they hold."""

from __future__ import annotations

import copy
import dataclasses
from collections import UserDict
from collections.abc import Callable, Iterable
from types import FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any, Final

from torch import Size, Tensor, nn
from torch.utils import _pytree as pytree


class Atom:
    """Base of classes that are never looked into, whatever they are made of."""

    __slots__ = ()


ATOMS = (Tensor, int, float, str, type(None), Atom, Size)  # PyTorch would make a size a plain tuple
_CLOSED = (*ATOMS, nn.Module, type, ModuleType, FunctionType, MethodType)
Copies = dict[int, tuple[Any, Any]]
"""Containers and their copies, by the identity of the first."""
_DEPTH: Final = 3  # how far into the attributes of a result's objects tensors are looked for


def map_leaves(change: Callable[[Any], Any], value: Any, copies: Copies | None = None) -> Any:
    """Return ``value`` rebuilt with ``change`` applied to every leaf, in a fixed order.

    Containers are tuples, lists, dicts, everything registered with PyTorch's pytree (named tuples, model outputs of
    transformers, …), other kinds of dicts, data classes, attrs classes and namespaces; anything else is a leaf.

    Args:
        change: What a leaf becomes.
        value: What to rebuild.
        copies: Takes every container with its copy. One that is there twice then has one copy, too.
    """
    kind = type(value)
    if isinstance(value, ATOMS):
        return change(value)
    if kind is tuple:
        rebuilt: Any = tuple([map_leaves(change, v, copies) for v in value])
    elif kind is list:
        rebuilt = [map_leaves(change, v, copies) for v in value]
    elif kind is dict:
        rebuilt = {k: map_leaves(change, v, copies) for k, v in value.items()}
    else:
        rebuilt = _map_other(change, value, copies)
    return rebuilt if copies is None else copies.setdefault(id(value), (value, rebuilt))[1]


def _map_other(change: Callable[[Any], Any], value: Any, copies: Copies | None) -> Any:
    kind = type(value)
    if kind in pytree.SUPPORTED_NODES:
        node = pytree.SUPPORTED_NODES[kind]
        children, context = node.flatten_fn(value)
        return node.unflatten_fn([map_leaves(change, v, copies) for v in children], context)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        # past the class's own constructor, which may want more of its arguments (PackedSequence does)
        return tuple.__new__(kind, [map_leaves(change, v, copies) for v in value])
    if isinstance(value, (dict, UserDict)):
        rebuilt = copy.copy(value)
        for key, entry in value.items():
            rebuilt[key] = map_leaves(change, entry, copies)
        return rebuilt
    names = field_names(value)
    return change(value) if names is None else _map_fields(change, value, names, copies)


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


def _map_fields(change: Callable[[Any], Any], value: Any, names: list[str], copies: Copies | None) -> Any:
    rebuilt = copy.copy(value)
    for name in names:
        # object.__setattr__: the class may be frozen, the copy is ours
        object.__setattr__(rebuilt, name, map_leaves(change, getattr(value, name), copies))
    return rebuilt


def leaves_of(value: Any) -> list[Any]:
    """Return the leaves of ``value`` in the order ``map_leaves`` visits them."""
    if isinstance(value, Tensor):
        return [value]
    found: list[Any] = []
    map_leaves(found.append, value)
    return found


def replace_leaves(value: Any, leaves: list[Any], copies: Copies | None = None) -> Any:
    """Return ``value`` with its leaves replaced by ``leaves``, given in the order ``map_leaves`` visits them."""
    fresh = iter(leaves)
    return map_leaves(lambda _: next(fresh), value, copies)


def tensors_of(value: Any) -> list[Tensor]:
    """Return the tensors among the leaves of ``value``."""
    return [leaf for leaf in leaves_of(value) if isinstance(leaf, Tensor)]


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


def form_of(value: Any, depth: int = 0) -> Any:
    """Return which containers and objects ``value`` is made of, with keys and lengths, and where it has tensors.

    Two results of one module whose forms are equal have the same things in the same places.
    """
    if isinstance(value, ATOMS):
        return isinstance(value, Tensor)
    if isinstance(value, (list, tuple)):
        return [form_of(entry, depth) for entry in value]
    if isinstance(value, (dict, UserDict)):
        return [(key, form_of(entry, depth)) for key, entry in value.items()]
    names = field_names(value)
    held = {name: getattr(value, name) for name in names} if names is not None else getattr(value, "__dict__", None)
    if held is None or depth == _DEPTH or isinstance(value, _CLOSED):
        return False
    return [(name, form_of(entry, depth + 1)) for name, entry in held.items()]


def alike_before(one: Any, other: Any) -> tuple[int, bool]:
    """Return how many things lie before the first difference of two forms, and whether there is one.

    A container with other keys, or of another length, differs as a whole: a loop may go over all it holds.
    """
    if not (isinstance(one, list) and isinstance(other, list)):
        return int(one == other), one != other
    if len(one) != len(other):
        return 0, True
    pairs, count = list(zip(map(_named, one), map(_named, other), strict=True)), 0
    if any(a[0] != b[0] for a, b in pairs):
        return 0, True
    for (_, a), (_, b) in pairs:
        within, differ = alike_before(a, b)
        count += within
        if differ:
            return count, True
    return count, False


def _named(entry: Any) -> tuple[Any, Any]:
    """Return an entry of a form with its key, or its place in a sequence without one."""
    return entry if isinstance(entry, tuple) else (None, entry)


def _open(value: Any, found: list[Any], seen: set[int], depth: int) -> None:
    for leaf in leaves_of(value):
        attributes = None if isinstance(leaf, _CLOSED) or id(leaf) in seen else getattr(leaf, "__dict__", None)
        if attributes is None or depth == _DEPTH:
            found.append(leaf)
        else:
            seen.add(id(leaf))
            _open(dict(attributes), found, seen, depth + 1)
