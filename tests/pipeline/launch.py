"""Starts the processes of a run as torchrun's agent does, and watches each of them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from torch.distributed import TCPStore

LIMIT = 500.0
"""Seconds after which processes that still run are killed; far more than any of these runs takes."""


class Launched:
    """The processes of one run, by rank.

    Attributes:
        processes: The processes.

    Args:
        processes: The processes.
        logs: The files of what they write.
    """

    def __init__(self, processes: Sequence[subprocess.Popen[str]], logs: Sequence[Path]) -> None:
        self.processes, self._logs = processes, logs
        self._end = time.monotonic() + LIMIT

    def until(self, reached: Callable[[], bool]) -> None:
        """Wait until something is reached, while all processes run."""
        while not reached():
            assert time.monotonic() < self._end, "never reached"
            assert all(process.poll() is None for process in self.processes), self.said()
            time.sleep(0.02)

    def at_work(self, rank: int, checkpoints: Path) -> bool:
        """Return whether a process has the claim of an item."""
        for claim in checkpoints.glob("*.claim"):
            with contextlib.suppress(FileNotFoundError, ValueError):  # gone meanwhile, or half written
                if json.loads(claim.read_text())["process"] == self.processes[rank].pid:
                    return True
        return False

    def codes(self) -> list[int]:
        """Wait for all processes, and return their exit codes."""
        return [process.wait(max(self._end - time.monotonic(), 0.1)) for process in self.processes]

    def said(self) -> list[str]:
        """Return what each process wrote so far."""
        return [log.read_text() for log in self._logs]


@contextlib.contextmanager
def launched(folder: Path, size: int, *arguments: str) -> Iterator[Launched]:
    """Start guard-run in ``size`` processes; those that are left at the end are killed.

    Args:
        folder: Where their output goes.
        size: Number of processes.
        *arguments: Of guard-run.
    """
    # As torchrun does, the one who starts them holds the store, on a port that the system chooses.
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    folder.mkdir(parents=True, exist_ok=True)
    processes, logs = [], [folder / f"{rank}.log" for rank in range(size)]
    try:
        for rank, log in enumerate(logs):
            environment = {
                **os.environ, "OMP_NUM_THREADS": "1", "RANK": str(rank), "WORLD_SIZE": str(size),
                "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port),
                "TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0",
            }  # fmt: skip
            command = [sys.executable, "-m", "guard_plugins", *arguments]
            with log.open("w") as out:
                processes.append(subprocess.Popen(command, stdout=out, stderr=out, env=environment, text=True))
        yield Launched(processes, logs)
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.wait()
