"""Ctrl-C is answered at once, where a person is at the terminal."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
from collections.abc import Iterator

import pytest

from guard_plugins.runtime.signals import HEARD, StoppedError, StopRequest


@contextlib.contextmanager
def terminal() -> Iterator[int]:
    """Give the reading end of a terminal that is standard error meanwhile."""
    reading, writing = pty.openpty()
    with os.fdopen(writing, "w") as screen, contextlib.redirect_stderr(screen):
        yield reading
    os.close(reading)


def shown(screen: int, *, within: float) -> bytes:
    """Return what the terminal was given; its driver passes it on in a moment of its own."""
    ready, _, _ = select.select([screen], [], [], within)
    return os.read(screen, 1000).replace(b"\r\n", b"\n") if ready else b""


def test_the_first_is_answered_and_the_second_ends_it() -> None:
    with terminal() as screen, StopRequest().listening(aloud=True) as stop:
        signal.raise_signal(signal.SIGINT)
        assert shown(screen, within=10) == HEARD
        with pytest.raises(StoppedError, match="SIGINT"):
            stop.check()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert shown(screen, within=0.1) == b""


@pytest.mark.parametrize(("number", "aloud"), [(signal.SIGTERM, True), (signal.SIGINT, False)])
def test_nobody_else_is_told(number: signal.Signals, aloud: bool) -> None:
    with terminal() as screen, StopRequest().listening(aloud=aloud) as stop:
        signal.raise_signal(number)
        assert stop.asked
        assert shown(screen, within=0.1) == b""


def test_a_log_is_told_at_the_end_only(capfd: pytest.CaptureFixture[str]) -> None:
    with StopRequest().listening(aloud=True) as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.asked
    assert capfd.readouterr().err == ""
