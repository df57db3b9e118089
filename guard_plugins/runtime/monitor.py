"""Progress for people (stderr) and for programs (events.jsonl)."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from guard_plugins.artifacts.atomic import append_text
from guard_plugins.config.schema import Level
from guard_plugins.files import regular
from guard_plugins.runtime.signals import StoppedError

Callback = Callable[[Mapping[str, Any]], None]
"""Called with an event: ``event`` says its kind, ``time`` when; ``step`` has ``loop``, ``step`` and ``numbers``."""

PLAIN_EVERY: Final = 20.0
"""Seconds between two progress lines where stderr is not a terminal."""


LEVELS: Final[tuple[Level, ...]] = ("quiet", "normal", "verbose")
"""How much is said, least first."""


class _Terminal(Console):
    """A console that says of a reader who has gone what everything else that writes says; rich would end the process.

    So a command ends with the exit code of a closed pipe, and a program that calls ``guard_plugins.run`` can go on.
    """

    def on_broken_pipe(self) -> None:
        """Raise what was raised."""
        self.quiet = True
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


class Tracker:
    """Progress of one loop.

    Attributes:
        metrics: Numbers shown beside it.
    """

    def __init__(self, label: str, total: int, done: int, console: Console, bar: Progress | None) -> None:
        self.label = label = label.removeprefix("item/")
        self.total, self.done, self._begun = total, done, done
        self.metrics: dict[str, float] = {}
        self._console, self._bar = console, bar
        self._task: TaskID | None = bar.add_task(label, total=total, numbers="") if bar else None
        self._start = self._last = time.monotonic()

    def advance(self, count: int = 1) -> None:
        """Count ``count`` more units as done."""
        self.done += count
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self.done, numbers=self._numbers())
        elif time.monotonic() - self._last >= PLAIN_EVERY:
            self._last = time.monotonic()
            left = (self.total - self.done) / self._rate()
            self._console.print(f"  {self.label} {self.done}/{self.total} {self._numbers()} {left:.0f} s left")

    def _rate(self) -> float:
        return max(self.done - self._begun, 1) / max(time.monotonic() - self._start, 1e-9)

    def _numbers(self) -> str:
        return " ".join([f"{self._rate():.1f}/s", *(f"{name} {value:.4g}" for name, value in self.metrics.items())])


class Monitor:
    """Tells the terminal and the run's ``events.jsonl`` what is going on, and times the stages.

    Attributes:
        seconds: Duration of every stage this process finished, or was stopped in.

    Args:
        events: File to append events to, or None.
        quiet: Write nothing to the terminal (every process but the main one).
        level: How much of the rest is written: quiet leaves failures only.
        callbacks: Called with every event, and with the numbers of every step, which the file does not hold.
    """

    def __init__(
        self,
        events: Path | None = None,
        *,
        quiet: bool = False,
        level: Level = "normal",
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self._level: Level = level
        self.seconds: dict[str, float] = {}
        self._callbacks = list(callbacks)
        self._events, self._before = events, _seconds(events)
        self._console = _Terminal(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)

    def event(self, kind: str, **values: Any) -> None:
        """Append one event with its time stamp.

        Raises:
            ArtifactError: If it cannot be written.
        """
        event = {"time": round(time.time(), 3), "event": kind, **values}
        if self._events is not None:
            append_text(self._events, json.dumps(event) + "\n")
        self._call(event)

    def step(self, loop: str, index: int, numbers: Mapping[str, float]) -> None:
        """Tell the callbacks the numbers of a step.

        Args:
            loop: Name of the loop.
            index: Number of the step, from 0.
            numbers: What the step logged.
        """
        self._call({"time": round(time.time(), 3), "event": "step", "loop": loop, "step": index, "numbers": numbers})

    def _call(self, event: Mapping[str, Any]) -> None:
        for callback in [*self._callbacks]:
            try:
                callback(event)
            except Exception as error:  # a run of hours does not end because a service cannot be reached
                self._callbacks.remove(callback)
                self.say(f"warning: a callback failed and is not called again: {type(error).__name__}: {error}")

    def say(self, text: str, *, at: Level = "normal") -> None:
        """Print a line for the person at the terminal who asked for at least so much, and keep it as an event."""
        if LEVELS.index(at) <= LEVELS.index(self._level):
            self._console.print(text, markup=False)
        self.event("message", text=text)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage and announce its begin and end."""
        self.event("stage begins", stage=name)
        start = time.perf_counter()
        try:
            yield
        except StoppedError:
            self._timed("stage stopped", name, start)
            raise
        self._timed("stage ends", name, start)
        if self._level != "quiet":
            self._console.print(f"{name}: {self.seconds[name]:.1f} s", markup=False)

    def total_seconds(self) -> dict[str, float]:
        """Return the duration of every stage in all processes of the run, but for what killed ones had not finished."""
        stages = dict.fromkeys([*self._before, *self.seconds])
        return {name: round(self._before.get(name, 0.0) + self.seconds.get(name, 0.0), 3) for name in stages}

    def _timed(self, kind: str, stage: str, start: float) -> None:
        self.seconds[stage] = round(time.perf_counter() - start, 3)
        self.event(kind, stage=stage, seconds=self.seconds[stage])

    @contextlib.contextmanager
    def track(self, label: str, total: int, *, done: int = 0) -> Iterator[Tracker]:
        """Show the progress of a loop of ``total`` units, ``done`` of them already, while the context is open."""
        with contextlib.ExitStack() as stack:
            hidden = self._console.quiet or self._level == "quiet"
            bar = stack.enter_context(self._bar()) if self._console.is_terminal and not hidden else None
            tracker = Tracker(label, total, done, Console(quiet=True) if hidden else self._console, bar)
            yield tracker
            self.event("loop ends", loop=label, units=tracker.done, **tracker.metrics)

    def _bar(self) -> Progress:
        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(),
        )  # fmt: skip
        return Progress(*columns, console=self._console, transient=True)


def _seconds(events: Path | None) -> dict[str, float]:
    """Return the seconds of every stage by a run's earlier events; a line that a kill cut off is passed over."""
    found: dict[str, float] = {}
    known = ""
    if events is not None and events.is_file():
        known = regular(events).read_text(encoding="utf-8", errors="replace")
    for line in known.splitlines():
        with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
            event = json.loads(line)
            if event["event"] in ("stage ends", "stage stopped"):
                found[event["stage"]] = found.get(event["stage"], 0.0) + float(event["seconds"])
    return found
