"""How a command ends: a message a person can act on, and an exit code a script can."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable
from typing import Final

from guard_plugins.errors import ConfigError, GuardError
from guard_plugins.runtime.malloc import few_full_searches
from guard_plugins.runtime.signals import StoppedError

FAILED: Final = 1
"""Exit code of errors that are not the input's."""
INTERRUPTED: Final = 130
"""Exit code after Ctrl-C, as shells have it (128 + SIGINT)."""
PIPE_CLOSED: Final = 141
"""Exit code where the reader of the output has gone, as shells have it (128 + SIGPIPE)."""


def exit_code(command: Callable[[], int]) -> int:
    """Run ``command``, its parsing of arguments included, and return its exit code.

    An error meant for the user is printed to stderr. So is a file that the system does not let us read or write, and
    output that cannot be delivered.
    """
    _open_streams()
    try:
        try:
            _require_folder()
            with few_full_searches():
                return command()
        finally:
            sys.stdout.flush()
    except StoppedError as error:
        return _said(f"Stopped. {error.how}", error.exit_code)
    except GuardError as error:
        return _said(f"error: {error}", error.exit_code)
    except KeyboardInterrupt:
        return _said("interrupted", INTERRUPTED)
    except BrokenPipeError:
        _drop_output()
        return PIPE_CLOSED
    except OSError as error:
        _drop_output()
        name = f" {error.filename}" if error.filename is not None else ""
        return _said(f"error: Cannot read or write{name or ' the output'}\n  seen: {error.strerror or error}", FAILED)


def _require_folder() -> None:
    """Refuse to work in a folder that is gone, where torch ends the process when it looks for its own files.

    Raises:
        ConfigError: If it is gone.
    """
    try:
        os.getcwd()  # noqa: PTH109 - it is only asked for
    except OSError as error:
        raise ConfigError(
            "The current folder cannot be used", seen=error.strerror or str(error),
            do="It was removed or moved, or may not be entered: change to another (cd), then give the command again.",
        ) from error  # fmt: skip


def _said(text: str, code: int) -> int:
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)  # noqa: T201 - the command's own voice
    return code


def _open_streams() -> None:
    """Put the null device in place of streams that were closed, and have stdout escape what it cannot encode."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_WRONLY)
            if null != number:
                os.dup2(null, number)  # so that no file of the run gets the number, and what is printed
                os.close(null)
            setattr(sys, name, os.fdopen(number, "w", encoding="utf-8", errors="backslashreplace", closefd=False))
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """Have what is left of the output go nowhere, so that the interpreter's end does not fail on it again."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
