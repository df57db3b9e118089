"""The loading of one plugin, fenced: whatever its code does at import, other plugins and the output do not notice."""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, Final, NoReturn

from guard_plugins.host.process_state import ProcessState
from guard_plugins.host.python_state import at_exit_to_stderr

_TURN: Final = threading.RLock()
"""What is put back belongs to the whole process: two threads would each put back what the other had set."""


class Interrupted(BaseException):
    """Ctrl-C, told apart from a plugin that raises KeyboardInterrupt itself."""


@contextlib.contextmanager
def fenced(changes: list[str]) -> Iterator[None]:
    """Keep the process as it is while a plugin is loaded.

    What is printed to stdout goes to stderr; ``os._exit`` raises SystemExit; the state of the process is put back.
    Other threads wait with their plugins.

    Args:
        changes: Takes what the plugin did to the process, in words.

    Raises:
        Interrupted: If the user pressed Ctrl-C.
    """
    with _TURN, _interrupts(), _no_second_process(changes), _no_exit(), _stdout_to_stderr(changes), _quiet_end():
        state, threads = ProcessState(), set(threading.enumerate())
        try:
            yield
        finally:
            changes += [f"changed {change}" for change in state.restore()]
            changes += [f"left a thread running ({t.name})" for t in threading.enumerate() if t not in threads]


@contextlib.contextmanager
def _interrupts() -> Iterator[None]:
    def interrupted(number: int, frame: FrameType | None) -> NoReturn:
        raise Interrupted

    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextlib.contextmanager
def _no_exit() -> Iterator[None]:
    original, loading = os._exit, True

    def end(status: int) -> NoReturn:
        if loading:
            raise SystemExit(f"os._exit({status})")
        original(status)  # for whoever kept this function

    os._exit = end
    try:
        yield
    finally:
        os._exit, loading = original, False


@contextlib.contextmanager
def _no_second_process(changes: list[str]) -> Iterator[None]:
    """End a process that the body forks, where the body does not: it would do all that follows a second time."""
    fork, end, process = getattr(os, "fork", None), os._exit, os.getpid()
    if fork is None:
        yield
        return

    def noted() -> int:
        child = fork()
        if child:
            changes.append("forked the process")
        return int(child)

    os.fork = noted
    try:
        yield
    finally:
        os.fork = fork
        if os.getpid() != process:
            end(0)


@contextlib.contextmanager
def _quiet_end() -> Iterator[None]:
    """Have what the body registers for the end of the process print to stderr."""
    original = atexit.register
    atexit.register = at_exit_to_stderr(original, lambda: _stdout_to_stderr([]))
    try:
        yield
    finally:
        atexit.register = original


@contextlib.contextmanager
def _stdout_to_stderr(changes: list[str]) -> Iterator[None]:
    written = _Written()
    with _descriptor_redirected(), contextlib.redirect_stdout(written):
        yield
    if written.anything:
        changes.append("printed to stdout, which went to stderr")


@contextlib.contextmanager
def _descriptor_redirected() -> Iterator[None]:
    """Have what programs and C code write to stdout go to stderr, too."""
    kept = None
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
        kept = os.dup(1)
        os.dup2(2, 1)
    try:
        yield
    finally:
        if kept is not None:
            os.dup2(kept, 1)
            os.close(kept)


class _Written(io.TextIOBase):
    """Passes everything on to stderr.

    Attributes:
        anything: Whether there was anything.
    """

    anything = False

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.anything = self.anything or bool(text)
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)  # buffer, encoding, fileno
