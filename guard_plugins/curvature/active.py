"""The one active hook of the process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from guard_plugins.errors import HookError


class Listener(Protocol):
    """What the tensor subclass and the patched module call report to."""

    def quiet(self) -> bool:
        """Return whether this is no moment to record (paused, another thread, inside a replay or a backward pass)."""

    def operation(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run ``function`` on recorded tensors and note how its results were made."""

    def backward(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the backward call of the loop on the regularised objective."""


class _Slot:
    """Holds the active listener; the package's only global state."""

    holder: Listener | None = None


def current() -> Listener | None:
    """Return the active listener, or None outside every context."""
    return _Slot.holder


def occupy(listener: Listener) -> None:
    """Make ``listener`` the active one.

    Raises:
        HookError: If another hook is active.
    """
    if _Slot.holder is not None:
        raise HookError(
            "two curvature hooks are active at once",
            seen="a hook was entered inside the context of another hook",
            do="use one hook per training loop; leave the first context before entering the second",
        )
    _Slot.holder = listener


def vacate() -> None:
    """Forget the active listener."""
    _Slot.holder = None
