"""Runs a command in this process and judges how it ended."""

from __future__ import annotations

import contextlib
import io
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any
from unittest import mock

LIMIT = 10
"""Seconds of processor time after which a command counts as hanging."""
WAIT = 60
"""Seconds on the clock after which it does, on a machine that others use too."""


class WorkBegan(BaseException):
    """The command has read all it was given and would now train or attack."""


class Hang(BaseException):
    """The command took too long."""


@dataclass
class Tally:
    """What was seen of many commands.

    Attributes:
        codes: How often each exit code was returned; ``work`` where the command went to work.
        faults: What should not have been, one text each.
    """

    codes: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def judge(self, name: str, command: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> None:
        """Run a command; tracebacks, hangs, other codes than 0 and 2, and more than one message are faults."""
        out, err, begin = io.StringIO(), io.StringIO(), time.monotonic()
        fault, code = "", "work"
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), limited():
            try:
                code = str(command(arguments))
            except WorkBegan:
                pass
            except SystemExit as error:
                code = str(error.code)
            except Hang:
                fault = f"took more than {LIMIT} s"
            except BaseException:
                fault = traceback.format_exc()
        self.codes[code] = self.codes.get(code, 0) + 1
        said = err.getvalue()
        # Something in the way of a file to be written is not the input's fault: exit code 1.
        expected = {"0": 0, "work": 0, "2": 1, "1": 1 if "error: Cannot write" in said else None}.get(code)
        if not fault and (said.count("error: ") != expected or "Traceback" in said):
            fault = f"exit code {code}\n{said}"
        if fault:
            self.faults.append(
                f"{name}: {' '.join(map(str, arguments))[:300]} ({time.monotonic() - begin:.1f} s)\n{fault}"
            )


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Raise :class:`Hang` in the block after the limit."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise Hang

    before = {number: signal.signal(number, stop) for number in (signal.SIGALRM, signal.SIGPROF)}
    signal.alarm(WAIT)
    signal.setitimer(signal.ITIMER_PROF, LIMIT)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def without_work() -> Iterator[None]:
    """End commands where they would begin to train or attack: every file they need is read by then."""
    from guard_plugins.pipeline.standalone import evaluate
    from guard_plugins.runtime.monitor import Monitor

    def begin(*_: Any, **__: Any) -> Any:
        raise WorkBegan

    with mock.patch.object(Monitor, "track", begin), mock.patch.object(evaluate, "_assessed", begin):
        yield
