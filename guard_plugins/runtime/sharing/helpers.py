"""Further processes that make items of a run on idle cores. The run needs none of them: what they leave, it makes."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import torch

from guard_plugins.runtime.sharing.told import Order

SERVED: Final = ("students", "evaluation")
"""Stages whose items helpers make. Images and stored labels are left to all threads of the run itself."""
LEAVE: Final = 10.0
"""Seconds in which a process that is asked to stop may save what it is at."""


class Helpers:
    """The processes beside the one that does a run.

    They hear what to do by their standard input, and end when it is closed: so they end with this process, whatever
    ends it. What they make are the items' files, under claims.

    Attributes:
        stage: Name of the stage at work; set by the run.
        say: Says what is wrong with them; set by the run.
        threads: Threads of every process while they share items, whether or not the others are there. Numbers depend on
            threads by rounding.
        ahead: Whether they have a core for themselves while the run does what is no item.

    Args:
        folder: The run's folder.
        count: Number of processes.
        program: Name of the module that a process runs, with the folder as its argument.
        threads: Threads of all processes together.
        ahead: See the attribute.
    """

    def __init__(self, folder: Path, count: int, *, program: str, threads: int, ahead: bool) -> None:
        self.stage, self.ahead, self.threads = "", ahead, max(1, threads // (count + 1))
        self.say: Callable[[str], None] = lambda text: None
        self._folder, self._count, self._program = folder, count, program
        self._processes: list[subprocess.Popen[bytes]] = []
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - open for as long as the processes are there

    def start(self) -> None:
        """Start the processes; they are ready some seconds later, and nobody waits for that."""
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.threads)}
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", self._program, str(self._folder.absolute())], stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL, stderr=self._said, env=environment, start_new_session=True,
            )
            for _ in range(self._count)
        ]  # fmt: skip

    def serve(self, names: Sequence[str]) -> bool:
        """Return whether these items of the stage at work are made by several processes."""
        return self.stage in SERVED and len(names) > 1

    @contextlib.contextmanager
    def asked(self, names: Sequence[str], missing: Sequence[int]) -> Iterator[None]:
        """Have the processes make items of the stage at work while the body makes them too, on its share of threads.

        Args:
            names: Names of all items of the stage.
            missing: Numbers of those that are not made.
        """
        if len(missing) > 1:
            self._ask(Order(self.stage, str(self._folder), names[0], missing))
        with threads(self.threads):
            yield

    def ask_ahead(self, stage: str) -> None:
        """Have the processes make what can be made of a stage before those between are finished."""
        self._ask(Order(stage, str(self._folder), "", ()))

    def _ask(self, order: Order) -> None:
        for process in list(self._processes):
            assert process.stdin is not None  # it is a pipe
            try:
                process.stdin.write(order.as_text().encode() + b"\n")
                process.stdin.flush()
            except OSError:
                self._lose(process)

    def close(self, *, at_work: bool) -> None:
        """End the processes.

        Args:
            at_work: Whether they may be at work on an item. They save the state of its loop then.
        """
        for process in self._processes:
            if at_work:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(LEAVE)
            process.kill()
            process.wait()
            with contextlib.suppress(OSError):
                process.stdin.close() if process.stdin else None
        self._processes = []
        self._said.close()

    def _lose(self, process: subprocess.Popen[bytes]) -> None:
        self._processes.remove(process)
        code = process.wait()
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        why = f": {lines[-1]}" if lines else ""
        self.say(f"warning: a second process ended with exit code {code}, and the run goes on without it{why}")


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Have PyTorch use ``count`` threads while the context is open."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
