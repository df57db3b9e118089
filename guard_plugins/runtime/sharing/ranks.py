"""The ranks of one run: the first does the run and deals items, the others make what they are dealt.

They talk through a key-value store (that of the launcher's rendezvous) and never wait in a collective operation, so
nothing here has a timeout: a wait ends with an answer, or when a process is seen to be gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from guard_plugins.errors import ConfigError, GuardError, LostError
from guard_plugins.runtime.sharing.claims import place, runs
from guard_plugins.runtime.sharing.told import Order, heard, told
from guard_plugins.runtime.sharing.world import World
from guard_plugins.runtime.signals import StopRequest

LOOK: Final = 0.2
"""Seconds between two looks at what other processes say."""
WAIT: Final = 0.02
"""Seconds between two looks of a process that has nothing else to do."""
LOST: Final = 120.0
"""Seconds without a sign of a process on another host after which it is gone."""
LEAVE: Final = 15.0
"""Seconds that the first process waits at the end for the others to have read how the run ended."""


class Ranks:
    """This process among all ranks of a run.

    Attributes:
        rank: Number of this process; 0 is the one that does the run.
        size: Number of processes.
        stage: Name of the stage at work; set by the run.
        folder: The run's folder; set by the run.

    Args:
        store: A ``torch.distributed`` store that all ranks share, with nothing in it.
        world: Which process this is.
        stop: Becomes set when any rank is asked to stop, or fails.
    """

    def __init__(self, store: Any, world: World, stop: StopRequest) -> None:
        self.rank, self.size, self.stop, self.stage, self.folder = world.rank, world.size, stop, "", Path()
        self._store, self._orders, self._published = store, 0, False
        self._beats: dict[int, tuple[int, float]] = {}
        self._over = threading.Event()
        store.set(f"hello/{self.rank}", json.dumps({"place": place(), "process": os.getpid()}))
        self._watcher = threading.Thread(target=self._watch, name="ranks", daemon=True)
        self._watcher.start()

    @property
    def name(self) -> str:
        """What messages call this process."""
        return f"process {self.rank} of {self.size} ({place().split()[0]})"

    def ready(self, settings: str) -> None:
        """Say that this process can begin; the first returns when all can.

        Args:
            settings: A fingerprint of the settings, which must be the same everywhere.

        Raises:
            ConfigError: If the first process has other settings.
            GuardError: If a process cannot begin, or a stop was asked for.
        """
        if self.rank == 0:
            self._store.set("settings", settings)
            for rank in range(1, self.size):
                self._wait(f"ready/{rank}", check=True)
            return
        self._wait("settings", check=True)
        if self._store.get("settings").decode() != settings:
            raise ConfigError(
                "The processes of the run were started with different settings", seen=f"{self.name} and process 0",
                do="Start the same command in every process, with the same files of settings and the same versions.",
            )  # fmt: skip
        self._store.set(f"ready/{self.rank}", "")

    @contextlib.contextmanager
    def dealing(self, names: Sequence[str], missing: Sequence[int]) -> Iterator[Sequence[int]]:
        """Deal items and yield the numbers of this process's own; on leaving, all are made or left behind.

        Args:
            names: Names of all items of the stage.
            missing: Numbers of those that are not made.

        Raises:
            GuardError: If another process failed or is gone.
            StoppedError: If a process was asked to stop.
        """
        with self._ordered(Order(self.stage, str(self.folder), names[0], missing)) as order:
            yield order.numbers(self.rank, self.size)

    @contextlib.contextmanager
    def joining(self, number: int, inputs: str) -> Iterator[None]:
        """Have all ranks do the stage's piece of work ``number`` together; errors are those of :meth:`dealing`.

        Args:
            number: Which of the stage's pieces it is.
            inputs: The fingerprint of what it depends on.
        """
        with self._ordered(Order(self.stage, str(self.folder), "", [number], inputs)):
            yield

    @contextlib.contextmanager
    def _ordered(self, order: Order) -> Iterator[Order]:
        self._orders += 1
        self._store.set(f"order/{self._orders}", order.as_text())
        try:
            yield order
        except Exception as error:
            self.fail(error)
            self._wait_for_answers()
            raise
        self._wait_for_answers()
        self._look()
        self.stop.check()

    @property
    def at_work(self) -> tuple[Any, str]:
        """The store of all ranks, and a prefix of keys for the order at work."""
        return self._store, f"order/{self._orders}/"

    def orders(self) -> Iterator[Order]:
        """Yield what the first process deals to this one, until the run is over.

        Raises:
            LostError: If the first process is gone.
        """
        while True:
            name = f"order/{self._orders + 1}"
            while not self._store.check([name]):
                if self._store.check(["over"]):
                    return
                self._refuse_loss()
                time.sleep(WAIT)
            self._orders += 1
            yield Order.of(self._store.get(name))
            self._store.set(f"answer/{self._orders}/{self.rank}", "")

    def fail(self, error: BaseException) -> None:
        """Stop all ranks because of an error; the first error of all counts. A stop is no error."""
        if self.stop.number is None:
            self._tell(error)

    def _tell(self, error: BaseException) -> None:
        with contextlib.suppress(RuntimeError):  # the store may be gone as well
            self._store.compare_set("failed", "", told(error, self.name))

    def close(self, error: BaseException | None) -> None:
        """End the run, of whose processes this is the first; all end with the error, where there is one."""
        with contextlib.suppress(RuntimeError):
            self._look()
            if error is not None:
                self.fail(error)
            self._store.set("bye/0", "")
            self._store.set("over", "" if error is None else told(error, self.name))
            end = time.monotonic() + LEAVE
            for rank in range(1, self.size):
                while time.monotonic() < end and not self._store.check([f"bye/{rank}"]) and not self._gone(rank):
                    time.sleep(WAIT)

    def outcome(self) -> GuardError | None:
        """Return how the run ended, when it has.

        Raises:
            LostError: If the first process is gone.
        """
        self._wait("over")
        text = self._store.get("over")
        self._store.set(f"bye/{self.rank}", "")
        return heard(text) if text else None

    def leave(self) -> None:
        """End the thread that listens: one that is in the store while the interpreter ends would abort the process."""
        self._over.set()
        self._watcher.join(LEAVE)

    def _wait_for_answers(self) -> None:
        for rank in range(1, self.size):
            self._wait(f"answer/{self._orders}/{rank}")

    def _wait(self, key: str, *, check: bool = False) -> None:
        while not self._store.check([key]):
            self._refuse_loss()
            if check:
                self.stop.check()
            time.sleep(WAIT)

    def _refuse_loss(self) -> None:
        if isinstance(self.stop.error, LostError):
            raise self.stop.error

    def _watch(self) -> None:
        while not self._over.wait(LOOK):
            try:
                self._look()
                self._store.add(f"beat/{self.rank}", 1)
                for rank in range(1, self.size) if self.rank == 0 else (0,):
                    if self._gone(rank):
                        raise LostError(
                            f"Process {rank} of {self.size} left the run",
                            seen=f"it ran on {self._said(rank)['place'].split()[0]}, and no longer does",
                            do="Start the same processes, or another number of them, with --resume RUN.",
                        )  # fmt: skip
            except LostError as error:
                self.stop.error = error
                self._tell(error)  # a launcher sends the others a signal as soon as one is gone
                return
            except RuntimeError as error:
                self.stop.error = LostError(
                    "The processes of the run can no longer reach each other", seen=str(error).splitlines()[0],
                    do="Start them again with --resume RUN.",
                )  # fmt: skip
                return

    def _look(self) -> None:
        """Take over what other processes say, and tell them of a signal."""
        if self.stop.number is None:
            if self._store.check(["stop"]):
                self._published, self.stop.number = True, int(self._store.get("stop"))
        elif not self._published:
            self._store.set("stop", str(int(self.stop.number)))
            self._published = True
        if self.stop.error is None and self._store.check(["failed"]):
            self.stop.error = heard(self._store.get("failed"))

    def _said(self, rank: int) -> dict[str, Any]:
        return dict(json.loads(self._store.get(f"hello/{rank}")))

    def _gone(self, rank: int) -> bool:
        """Return whether a process that was there no longer is."""
        if not self._store.check([f"hello/{rank}"]) or self._store.check([f"bye/{rank}"]):
            return False
        said = self._said(rank)
        if said["place"] == place():
            return not runs(said["process"])
        count, now = self._store.add(f"beat/{rank}", 0), time.monotonic()
        before, since = self._beats.get(rank, (-1, now))
        self._beats[rank] = (count, now if count != before else since)
        return now - self._beats[rank][1] > LOST
