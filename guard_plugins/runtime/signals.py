"""Ctrl-C and SIGTERM end a run at the next safe point, not in the middle of a file."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Final

from guard_plugins.errors import GuardError

HEARD: Final = b"\nStopping as soon as everything is saved. Ctrl-C again stops at once.\n"


class StoppedError(GuardError):
    """The run was asked to stop, and did so with everything saved; the exit code is 128 + the signal's number.

    Args:
        number: The signal.
        resume: The folder of the run that was stopped, or None outside of runs.
        do: How to go on; from the folder if empty.
    """

    def __init__(self, number: int, *, resume: Path | None = None, do: str = "") -> None:
        self.number = number
        folder = shlex.quote(str(resume)) if resume is not None else "FOLDER"
        do = do or f"Continue with: guard-run --resume {folder}"
        self.how = do
        super().__init__(f"Stopped by {signal.Signals(number).name}", do=do)
        self.exit_code = 128 + number  # type: ignore[misc]


class StopRequest:
    """Remembers a stop signal until the run reaches a safe point; a second signal ends it at once.

    Where several processes work together, another one's signal or error stops this one too.

    Attributes:
        number: The signal that this process or another received, or None.
        error: What went wrong in another process, or None.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.error: GuardError | None = None
        self._heard = False
        self._aloud = False

    @property
    def asked(self) -> bool:
        """Whether the run is to stop."""
        return self.number is not None or self.error is not None

    def check(self) -> None:
        """Return if no stop was asked for.

        Raises:
            StoppedError: If one was.
            GuardError: If something went wrong in another process.
        """
        if self.error is not None:
            raise self.error
        if self.number is not None:
            raise StoppedError(self.number)

    @contextlib.contextmanager
    def listening(self, *, aloud: bool = False) -> Iterator[StopRequest]:
        """Catch SIGINT and SIGTERM while the context is open (in the main thread; elsewhere nothing is caught).

        Args:
            aloud: Tell a person at a terminal at once that Ctrl-C was heard, since a safe point may be seconds away.
        """
        self._aloud = aloud
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        old = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self._heard:
            raise KeyboardInterrupt
        self._heard, self.number = True, number
        if self._aloud and number == signal.SIGINT and sys.stderr.isatty():
            os.write(sys.stderr.fileno(), HEARD)  # past Python's buffer, which the interrupted code may be writing to
