"""Containers that the loop hands to a model, and what the model writes into them."""

from __future__ import annotations

from collections import UserDict, deque
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from guard_plugins.curvature.state.pytree import ATOMS, contents_of, field_names, tensors_of


class Filled:
    """What a model writes into the containers among its arguments.

    Args:
        args, kwargs: What it is called with.
        own: What the loop has in place of tensors and containers of these, by identity; empty where they are its own.
    """

    def __init__(self, args: Any, kwargs: Any, own: Mapping[int, Any]) -> None:
        self._used, self._own = (args, kwargs), own
        held = not all(isinstance(value, ATOMS) for value in (*args, *kwargs.values()))
        self._had = tensors_of(self._used) if held else None

    def results(self, result: Any) -> list[Any] | None:
        """Return the contents of result and arguments, None in place of what was given; None if nothing was written.

        A second call has them in the same places.
        """
        if self._had is None:
            return None
        given, first = {id(tensor) for tensor in self._had}, len(contents_of(result))
        contents = contents_of([result, *self._used])
        written = [leaf if isinstance(leaf, Tensor) and id(leaf) not in given else None for leaf in contents[first:]]
        return [*contents[:first], *written] if any(leaf is not None for leaf in written) else None

    def handed_back(self, result: Any, given: Any) -> Any:
        """Write into the loop's containers what the copies have that the model was given; return its result likewise.

        Args:
            result: Of the model.
            given: The loop's arguments.
        """
        if self._had is None or not self._own:
            return result
        _hand_back(given, self._used, self._own, set())
        return _of_the_loop(result, self._own)


def _of_the_loop(result: Any, own: Mapping[int, Any]) -> Any:
    if isinstance(result, Tensor):
        return result
    if type(result) is tuple:
        return tuple([_of_the_loop(value, own) for value in result])
    return own.get(id(result), result)


def _hand_back(given: Any, used: Any, own: Mapping[int, Any], done: set[int]) -> None:
    """Make ``given`` hold what ``used`` holds, in the loop's own terms; both are one where the model made it."""
    before, after = _children(given), _children(used)
    if before is None or after is None or id(used) in done:
        return
    done.add(id(used))
    for key, value in after.items():
        mine = own.get(id(value), value)
        _hand_back(mine, value, own, done)
        if not isinstance(given, tuple) and (key not in before or before[key] is not mine):
            _put(given, key, mine)
    for key in reversed([key for key in before if key not in after]):
        del given[key]


def _children(value: Any) -> dict[Any, Any] | None:
    if isinstance(value, ATOMS):
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
