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
"""Seconds after which a command counts as hanging."""


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
        messages = err.getvalue().count("error: ")
        if not fault and (
            code not in ("0", "2", "work") or (code == "2" and messages != 1) or "Traceback" in err.getvalue()
        ):
            fault = f"exit code {code}, {messages} messages\n{err.getvalue()}"
        if fault:
            self.faults.append(
                f"{name}: {' '.join(map(str, arguments))[:300]} ({time.monotonic() - begin:.1f} s)\n{fault}"
            )


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Raise :class:`Hang` in the block after the limit."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LIMIT)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def without_work() -> Iterator[None]:
    """End commands where they would begin to train or attack: every file they need is read by then."""
    from guard_plugins.pipeline.standalone import evaluate
    from guard_plugins.runtime.monitor import Monitor

    def begin(*_: Any, **__: Any) -> Any:
        raise WorkBegan

    with mock.patch.object(Monitor, "track", begin), mock.patch.object(evaluate, "_assessed", begin):
        yield
