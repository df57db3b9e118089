"""What the attributes of modules hold: containers, plain records such as a meter, small arrays, random generators."""

from __future__ import annotations

import functools
import itertools
import random
import weakref
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from types import FunctionType, MethodType, ModuleType
from typing import Any, Final

import torch
from torch import Tensor, nn

CONTAINERS: Final = frozenset({list, dict, set, deque, defaultdict, OrderedDict, Counter})
ENTRIES: Final = 32  # of a container, which may be a log of everything
_DEPTH: Final = 4
_MANY: Final = 4096  # entries of a list or dict in a record, from which on only what is added at its end is state
_TAIL: Final = 1024
_BYTES: Final = 1 << 20  # of an array that counts something; a larger one holds data
_NUMBERS: Final = frozenset({bool, int, float, complex, str, bytes, type(None), tuple, torch.device, torch.dtype})
_NUMPY_GENERATORS: Final = frozenset({"numpy.random._generator.Generator", "numpy.random.mtrand.RandomState"})
_LOGS: Final = frozenset({list, dict, defaultdict, OrderedDict})
_STATE: Final = frozenset({"container", "array", "generator"})
_KINDS: Final[weakref.WeakKeyDictionary[type, str]] = weakref.WeakKeyDictionary()
_NO_RECORDS: Final = (Tensor, nn.Module, type, ModuleType, FunctionType, MethodType)


class Held:
    """Containers, records, arrays and generators among some values and what these hold, as they are at one moment.

    A record is an object whose attributes are all numbers, strings, tensors, containers or arrays: a meter, a schedule,
    settings. Other objects, such as a trainer or a logger, are none of a module's state. Of a long list or dict in a
    record only the end is put back, where a log grows.

    Args:
        values: The values.

    Attributes:
        entries: The values, and what they hold.
    """

    def __init__(self, values: list[Any]) -> None:
        self._containers: list[tuple[Any, Any]] = []
        self._others: list[Callable[[], Any]] = []
        self.entries, seen, deep = list(values), set[int](), set[int]()
        for depth in range(_DEPTH):
            inner: list[Any] = []
            for value in [v for v in values if type(v) not in _NUMBERS]:  # nearly all are: this is quick
                container = _container_of(value)
                if container is None or id(container) in seen:
                    continue
                seen.add(id(container))
                if _kind(value) in ("array", "generator"):
                    self._others.append(_restoring(value))
                    continue
                if (depth > 1 or id(value) in deep) and len(container) > _MANY and type(value) in _LOGS:
                    self._others.append(_restoring_end(value))  # the words of a text, the files of a data set
                else:
                    self._containers.append((container, container.copy()))
                inner += (held := first(container))
                if container is not value:
                    deep.update(map(id, held))
            self.entries += inner
            values = inner

    def restore(self) -> None:
        """Put everything back."""
        for container, saved in self._containers:
            container.clear()
            container.extend(saved) if isinstance(container, (list, deque)) else container.update(saved)
        for restore in self._others:
            restore()


def first(container: Any) -> list[Any]:
    """Return the first entries of a container, the values of a dict."""
    return list(itertools.islice(container.values() if isinstance(container, dict) else container, ENTRIES))


def _container_of(value: Any) -> Any:
    """Return what is to be copied of a value: itself, the dict of a record, or None."""
    kind = _kind(value)
    if kind == "record":
        held = vars(value)
        return held if type(held) is dict and all(_is_plain(entry) for entry in held.values()) else None
    if kind == "array":
        return value if value.nbytes <= _BYTES and value.flags.writeable and not value.dtype.hasobject else None
    return value if kind in ("container", "generator") else None


def _restoring(value: Any) -> Callable[[], Any]:
    """Return what puts an array, or a generator of PyTorch, NumPy or Python, back to what it is now."""
    if isinstance(value, torch.Generator):
        return functools.partial(value.set_state, value.get_state())
    if isinstance(value, random.Random):
        return functools.partial(value.setstate, value.getstate())
    if hasattr(value, "bit_generator"):
        return functools.partial(setattr, value.bit_generator, "state", value.bit_generator.state)
    if hasattr(value, "set_state"):
        return functools.partial(value.set_state, value.get_state())
    return functools.partial(value.__setitem__, ..., value.copy())


def _restoring_end(log: Any) -> Callable[[], None]:
    """Return what puts back the end of a long list or dict, which takes no time that grows with its length."""
    kept, items = len(log) - _TAIL, isinstance(log, dict)
    end = list(itertools.islice(reversed(log.items()), _TAIL))[::-1] if items else log[kept:]

    def restore() -> None:
        if len(log) < kept:  # emptied since
            return
        if not items:
            log[kept:] = end
            return
        while len(log) > kept:
            log.popitem()
        for key, value in end:
            log[key] = value

    return restore


def _is_plain(value: Any) -> bool:
    return isinstance(value, Tensor) or type(value) in _NUMBERS or _kind(value) in _STATE


def _kind(value: Any) -> str:
    kind = type(value)
    found = _KINDS.get(kind)
    if found is None:
        found = _KINDS[kind] = _kind_of(kind)
    return found


def _kind_of(kind: type) -> str:
    if kind in CONTAINERS:
        return "container"
    if kind in _NUMBERS or issubclass(kind, _NO_RECORDS):
        return ""
    name = f"{kind.__module__}.{kind.__name__}"
    if issubclass(kind, (torch.Generator, random.Random)) or name in _NUMPY_GENERATORS:
        return "generator"
    if kind.__module__.startswith("numpy"):
        return "array" if name == "numpy.ndarray" else ""
    return "record" if kind.__dictoffset__ and not issubclass(kind, Iterable) else ""
