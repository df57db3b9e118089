"""The one active session of the process."""

from __future__ import annotations

from guard_plugins.errors import HookError


class _Slot:
    """Holds the active session; the package's only global state."""

    holder: object | None = None


def current() -> object | None:
    """Return the active session, or None outside every context."""
    return _Slot.holder


def occupy(session: object) -> None:
    """Make ``session`` the active one.

    Raises:
        HookError: If another hook is active.
    """
    if _Slot.holder is not None:
        raise HookError(
            "two curvature hooks are active at once",
            seen="a hook was entered inside the context of another hook",
            do="use one hook per training loop; leave the first context before entering the second",
        )
    _Slot.holder = session


def vacate() -> None:
    """Forget the active session."""
    _Slot.holder = None
