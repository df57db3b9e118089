"""How a command ends: a message a person can act on, and an exit code a script can."""

from __future__ import annotations

import sys
from collections.abc import Callable

from guard_plugins.errors import GuardError

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it (128 + SIGINT)."""


def exit_code(command: Callable[[], int]) -> int:
    """Run ``command``; on an error meant for the user print it to stderr and return its exit code."""
    try:
        return command()
    except GuardError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - the command's own voice
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)  # noqa: T201
        return INTERRUPTED
