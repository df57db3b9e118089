"""What modules hold beside their weights, as it was at one moment: buffers, attributes, what their containers hold."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.modules import module as everywhere
from torch.nn.modules.batchnorm import _NormBase

from guard_plugins.curvature.state.held import CONTAINERS, ENTRIES, Held, first
from guard_plugins.curvature.state.leaves import made_of_inputs

INTERNAL: Final = frozenset(nn.Module().__dict__)
"""Attributes that every module has."""

_INDEXED: Final = CONTAINERS - {set, Counter}
_HOLD_MODULES: Final = frozenset({list, tuple, dict, OrderedDict})
_HOOKS: Final = (
    "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks",
    "_forward_hooks_with_kwargs", "_forward_hooks_always_called", "_forward_pre_hooks_with_kwargs",
)  # fmt: skip
_GLOBAL_HOOKS: Final[list[Any]] = [getattr(everywhere, f"_global{name}", None) for name in _HOOKS]

IsInput = Callable[[Tensor], bool]


class Buffers:
    """The buffers of some modules at one moment.

    Both the tensors' contents and the tensor objects themselves are put back: a module may write a buffer in place
    or put another tensor in its stead.

    Args:
        modules: The modules, sub-modules included by this class.
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        self._slots = [
            (part._buffers, name, buffer)
            for part in parts_of(modules)
            for name, buffer in part._buffers.items()
            if buffer is not None
        ]
        # .data: writing through it leaves the version counters alone, so graphs that saved a buffer stay valid
        self._live = [buffer.data for _, _, buffer in self._slots]
        self._saved = [buffer.clone() for buffer in self._live]

    def restore(self) -> None:
        """Put every buffer back."""
        for holder, name, buffer in self._slots:
            holder[name] = buffer
        if self._live:
            torch._foreach_copy_(self._live, self._saved)


class Attributes:
    """The plain attributes and hooks of some modules at one moment: which objects, and what their containers hold.

    Args:
        modules: The modules, sub-modules included by this class.
        earlier: Other moments, whose hooks a replay will put back.

    Attributes:
        replaced: Whether a part of a model went since one of those, so that a replay may compute something else.
    """

    def __init__(self, modules: Iterable[nn.Module], earlier: Sequence[Attributes] = ()) -> None:
        self._slots = [(part.__dict__, dict(part.__dict__)) for part in parts_of(modules)]
        own = [
            value
            for _, saved in self._slots
            if len(saved) > len(INTERNAL)
            for name, value in saved.items()
            if name not in INTERNAL
        ]
        self._held = Held(own)
        self._tensors = [(t, t._version) for t in self._held.entries if isinstance(t, Tensor) and not t.is_inference()]
        self._left: list[int] = []
        present = [*self._present(), *(held for other in earlier for held, _ in other._hooks)]
        self._hooks: list[tuple[Any, Any]] = [(held, held.copy()) for held in present]
        parts = {id(live) for live, _ in self._slots}
        self.replaced = any(id(live) not in parts for other in earlier for live, _ in other._slots)

    def call_ended(self) -> None:
        """Note what the call that began at this moment has left of the tensors, which later ones may write."""
        self._left = [tensor._version for tensor, _ in self._tensors]

    def tensors(self) -> list[Tensor]:
        """Return the tensors among the attributes, or in their containers."""
        return [tensor for tensor, _ in self._tensors]

    def written_by_call(self) -> list[Tensor]:
        """Return the tensors that the call wrote in place."""
        return [t for (t, before), after in zip(self._tensors, self._left, strict=False) if before != after]

    def written_later(self) -> list[Tensor]:
        """Return the tensors that the call left as they were, and that were written in place after it."""
        ended = zip(self._tensors, self._left, strict=False)
        return [t for (t, before), after in ended if before == after != t._version]

    def written(self) -> list[Tensor]:
        """Return the tensors among the attributes, or in their containers, that were written in place since."""
        return [tensor for tensor, version in self._tensors if tensor._version != version]

    def drop_graphs(self, is_input: IsInput) -> None:
        """Detach what was computed from x alone and set since, which has no graph without the hook.

        Otherwise the next step would go back through the graph of this one, and the batch would stay with it.

        Args:
            is_input: Tells whether x became a leaf.
        """
        for live, saved in self._slots:
            for name, value in live.items():
                if isinstance(value, Tensor):
                    if value is not saved.get(name) and _is_dropped(value, is_input):
                        live[name] = value.detach()
                elif type(value) in _INDEXED and value and name not in INTERNAL:
                    for key in _ends(value):
                        if _is_dropped(value[key], is_input):
                            value[key] = value[key].detach()

    def restore(self) -> None:
        """Put every attribute back."""
        for live, saved in self._slots:
            live.clear()
            live.update(saved)
        self._held.restore()
        known = {id(held) for held, _ in self._hooks}
        for held in self._present():  # of modules that had none
            if id(held) not in known:
                held.clear()
        for held, hooks in self._hooks:
            if held.keys() != hooks.keys():
                held.clear()
                held.update(hooks)

    def _present(self) -> list[Any]:
        """Return the containers of the modules' hooks, of those modules that have any now."""
        hooked = [
            saved
            for _, saved in self._slots
            if saved.get(_HOOKS[0]) or saved.get(_HOOKS[1]) or saved.get(_HOOKS[2]) or saved.get(_HOOKS[3])
        ]
        return [saved[name] for saved in hooked for name in _HOOKS] + [held for held in _GLOBAL_HOOKS if held]


class Before:
    """The buffers of some modules before a call, from which replays of the call start.

    A queue, a centre or the vectors of a spectral norm are advanced by the call itself. Replays work on copies, which
    their graphs may keep. The statistics of batch normalisation are left out: what advances them does not read them.

    Args:
        modules: The modules, sub-modules included by this class.
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        self._slots = [
            (part._buffers, name, buffer, None if buffer is None else buffer.detach().clone())
            for part in parts_of(modules)
            if part._buffers and not isinstance(part, _NormBase)
            for name, buffer in part._buffers.items()
            if buffer is None or not buffer.requires_grad  # others are part of a graph
        ]

    def put(self) -> None:
        """Put copies of the buffers in the place of those that are there now."""
        copies: dict[int, Tensor] = {}
        for holder, name, buffer, saved in self._slots:
            holder[name] = None if saved is None else copies.setdefault(id(buffer), saved.clone())

    def drop_graphs(self, is_input: IsInput) -> list[tuple[Tensor, str]]:
        """Detach the buffers that were computed from x alone, which have no graph without the hook.

        Args:
            is_input: Tells whether x became a leaf.

        Returns:
            The buffers and their names.
        """
        dropped = []
        for holder, name, _, _ in self._slots:
            buffer = holder[name] if name in holder else None  # noqa: SIM401 - a scripted module's is no dict
            if buffer is not None and buffer.grad_fn is not None and made_of_inputs(buffer, is_input):
                holder[name] = bare = buffer.detach()
                dropped.append((bare, name))
        return dropped


def parts_of(modules: Iterable[nn.Module]) -> list[nn.Module]:
    """Return modules and all their parts, those in lists, tuples and dicts among their attributes too."""
    found: dict[int, nn.Module] = {}
    waiting = list(modules)
    while waiting:
        for part in waiting.pop().modules():
            if id(part) not in found:
                found[id(part)] = part
                waiting += _hidden_in(part)
    return list(found.values())


def _hidden_in(part: nn.Module) -> list[nn.Module]:
    if len(part.__dict__) <= len(INTERNAL):
        return []
    held = [
        value
        for name, value in part.__dict__.items()
        if type(value) in _HOLD_MODULES and value and name not in INTERNAL
    ]
    return [entry for container in held for entry in first(container) if isinstance(entry, nn.Module)]


def _is_dropped(value: Any, is_input: IsInput) -> bool:
    return isinstance(value, Tensor) and value.grad_fn is not None and made_of_inputs(value, is_input)


def _ends(container: Any) -> list[Any]:
    """Return the keys or places of the first and the last entries of a container, which may be a log of everything."""
    keys: Any = list(container) if isinstance(container, dict) else range(len(container))
    return list(keys) if len(keys) <= 2 * ENTRIES else [*keys[:ENTRIES], *keys[-ENTRIES:]]
