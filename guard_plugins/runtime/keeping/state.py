"""The state of a loop: named tensors and things with a state of their own, as one serialisable object."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class Stateful(Protocol):
    """Anything with PyTorch's pair of state methods: modules, optimisers, schedulers."""

    def state_dict(self) -> Any:
        """Return the state."""

    def load_state_dict(self, state: Any) -> Any:
        """Take the state over."""


class LoopState:
    """Everything a loop needs to go on where it stopped.

    Args:
        **parts: Named tensors (restored in place), random generators, and objects with ``state_dict`` /
            ``load_state_dict``.
    """

    def __init__(self, **parts: Tensor | torch.Generator | Stateful) -> None:
        self.parts = parts

    def capture(self) -> dict[str, Any]:
        """Return a copy of the state: nested dicts and lists of CPU tensors and plain numbers."""
        return {name: _copied(_state_of(part)) for name, part in self.parts.items()}

    def restore(self, captured: dict[str, Any]) -> None:
        """Take over what :meth:`capture` returned.

        Raises:
            KeyError: If the parts are not the same.
        """
        for name, part in self.parts.items():
            if isinstance(part, Tensor):
                with torch.no_grad():
                    part.copy_(captured[name])
            elif isinstance(part, torch.Generator):
                part.set_state(captured[name])
            else:
                part.load_state_dict(captured[name])
                if isinstance(part, torch.optim.Optimizer):
                    _lay_out(part)


def _state_of(part: Tensor | torch.Generator | Stateful) -> Any:
    if isinstance(part, torch.Generator):
        return part.get_state()
    return part.detach() if isinstance(part, Tensor) else part.state_dict()


def _lay_out(optimizer: torch.optim.Optimizer) -> None:
    """Give an optimiser's averages the memory layout of their weights, as they had before they were stored."""
    for weight, averages in optimizer.state.items():
        for name, value in averages.items():
            if isinstance(value, Tensor) and value.shape == weight.shape and value.stride() != weight.stride():
                averages[name] = torch.empty_like(weight, dtype=value.dtype).copy_(value)


def _copied(tree: Any) -> Any:
    if isinstance(tree, Tensor):
        return tree.detach().cpu().clone()
    if isinstance(tree, dict):
        return {key: _copied(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_copied(value) for value in tree]
    return tree
