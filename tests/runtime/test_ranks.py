"""Ranks share items, signals and errors through a store; here each is a thread."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed import HashStore

from guard_plugins.errors import ConfigError, DataError, GuardError, LostError, TrainingError
from guard_plugins.runtime.items import do_items, join_items
from guard_plugins.runtime.keeping.checkpoints import Checkpoints
from guard_plugins.runtime.keeping.keeper import Keeper
from guard_plugins.runtime.loop import LoopState, steps
from guard_plugins.runtime.monitor import Monitor
from guard_plugins.runtime.seeds import Seeds
from guard_plugins.runtime.sharing import ranks as module
from guard_plugins.runtime.sharing.ranks import Ranks
from guard_plugins.runtime.sharing.shares import Portion, ShareDone
from guard_plugins.runtime.sharing.told import Order, heard, told
from guard_plugins.runtime.sharing.world import World
from guard_plugins.runtime.signals import StoppedError, StopRequest

NAMES = [f"make/{number}" for number in range(7)]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK", 0.01)


class Runs:
    """Ranks of one run, and what each made."""

    def __init__(self, size: int, folder: Path) -> None:
        store, self.folder = HashStore(), folder
        self.ranks = [Ranks(store, World(rank, size), StopRequest()) for rank in range(size)]
        self.made: list[list[int]] = [[] for _ in range(size)]

    def keeper(self, rank: int, share: Portion | None = None) -> Keeper:
        ranks = self.ranks[rank]
        kept = Checkpoints(self.folder, every=1e9)
        return Keeper(kept, ranks.stop, share=share, ranks=None if rank else ranks)

    def first(self, make: Callable[[int, int], None]) -> Any:
        """Do the run of the first rank, and return its items or its error."""
        ranks, found = self.ranks[0], None
        try:
            ranks.ready("settings")
            found = join_items(self.keeper(0), NAMES, lambda number: self.item(0, number, make), lambda text: None)
        except GuardError as error:
            found = error
        ranks.close(found if isinstance(found, GuardError) else None)
        return found

    def other(self, rank: int, make: Callable[[int, int], None]) -> GuardError | None:
        """Obey the first, and return what the run ended with."""
        ranks = self.ranks[rank]
        try:
            ranks.ready("settings")
            for order in ranks.orders():
                share = order.portion(rank, ranks.size)
                with pytest.raises(ShareDone):
                    join_items(self.keeper(rank, share), NAMES, lambda n: self.item(rank, n, make), lambda text: None)
        except GuardError as error:
            ranks.fail(error)
            ranks._store.set(f"answer/1/{rank}", "")  # as `orders` does where the body catches the error
        return ranks.outcome()

    def item(self, rank: int, number: int, make: Callable[[int, int], None]) -> torch.Tensor:
        make(rank, number)
        self.made[rank].append(number)
        return torch.full((2,), float(number))

    def all(self, make: Callable[[int, int], None]) -> list[Any]:
        with ThreadPoolExecutor(len(self.ranks)) as pool:
            others = [pool.submit(self.other, rank, make) for rank in range(1, len(self.ranks))]
            found = [self.first(make), *(other.result() for other in others)]
        for ranks in self.ranks:
            ranks.leave()
        return found


@pytest.mark.parametrize("size", [2, 3])
def test_every_rank_makes_its_items_and_the_first_has_all(size: int, tmp_path: Path) -> None:
    runs = Runs(size, tmp_path)
    first, *others = runs.all(lambda rank, number: None)
    assert torch.equal(first, torch.arange(7.0).repeat_interleave(2))
    assert others == [None] * (size - 1)
    assert runs.made == [list(range(rank, 7, size)) for rank in range(size)]


def test_what_is_missing_is_dealt_not_all(tmp_path: Path) -> None:
    """Of seven items, five were made by a run with other ranks: the two that are left go to two ranks."""
    share = Portion(NAMES[0], frozenset({1, 2, 3, 4, 5}))
    with pytest.raises(ShareDone):
        join_items(
            Keeper(Checkpoints(tmp_path, every=1e9), share=share), NAMES,
            lambda number: torch.full((2,), float(number)), lambda text: None,
        )  # fmt: skip
    runs = Runs(2, tmp_path)
    first, _ = runs.all(lambda rank, number: None)
    assert torch.equal(first, torch.arange(7.0).repeat_interleave(2))
    assert runs.made == [[0], [6]]


@pytest.mark.parametrize("failing", [0, 1])
def test_an_error_in_one_rank_is_that_of_all(failing: int, tmp_path: Path) -> None:
    runs = Runs(2, tmp_path)

    def make(rank: int, number: int) -> None:
        if rank == failing:
            raise TrainingError("The loss is no number", seen="loss = nan")

    first, other = runs.all(make)
    assert isinstance(first, TrainingError)
    assert isinstance(other, TrainingError)
    assert first.what == other.what == "The loss is no number"
    assert f"on process {failing} of 2" in other.seen


def test_a_signal_to_one_rank_stops_all(tmp_path: Path) -> None:
    runs = Runs(2, tmp_path)

    def make(rank: int, number: int) -> None:
        if rank == 1:
            runs.ranks[1].stop.number = signal.SIGTERM
        until = time.monotonic() + 60  # the first would else be done before it hears
        while rank == 0 and runs.ranks[0].stop.number is None and time.monotonic() < until:
            time.sleep(0.01)

    first, other = runs.all(make)
    assert isinstance(first, StoppedError)
    assert isinstance(other, StoppedError)
    assert first.exit_code == other.exit_code == 128 + signal.SIGTERM
    assert runs.made[1] == [1]


def test_a_signal_to_a_rank_that_waits_stops_the_first_with_one_checkpoint(tmp_path: Path) -> None:
    runs, said = Runs(2, tmp_path), list[str]()
    monitor = Monitor(quiet=True, callbacks=[lambda event: said.append(str(event.get("text")))])
    weights = torch.zeros(2)
    loop = steps(
        "teacher", 10**9, state=LoopState(weights=weights), seeds=Seeds(0), monitor=monitor,
        device=torch.device("cpu"), keeper=runs.keeper(0),
    )  # fmt: skip

    def train() -> None:
        for _ in loop:
            runs.ranks[1].stop.number = signal.SIGTERM
            weights.add_(1)
            time.sleep(0.01)

    with pytest.raises(StoppedError):
        train()
    assert [path.name.split("-")[0] for path in tmp_path.iterdir()] == ["teacher"]
    assert Checkpoints(tmp_path, every=1e9).peek("teacher") == int(weights[0])
    assert said[0] == "teacher is one piece of work: the first process does it, and the others wait"
    for ranks in runs.ranks:
        ranks.leave()


def test_other_settings_are_refused() -> None:
    store = HashStore()
    first, other = (Ranks(store, World(rank, 2), StopRequest()) for rank in range(2))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(first.ready, "one")
        with pytest.raises(ConfigError, match="different settings") as caught:
            other.ready("two")
        other.fail(caught.value)
        with pytest.raises(ConfigError, match="different settings"):
            waiting.result()
        pool.submit(first.close, waiting.exception())
        ended = other.outcome()
        first.leave()
        other.leave()
    assert ended is not None
    assert "different settings" in ended.what


def test_a_process_that_is_gone_is_named() -> None:
    """The other rank says hello as a process that has ended since."""
    store = HashStore()
    first, other = (Ranks(store, World(rank, 2), StopRequest()) for rank in range(2))
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    store.set("hello/1", json.dumps({"place": module.place(), "process": gone.pid}))
    with pytest.raises(LostError, match="Process 1 of 2 left the run"):
        first.ready("settings")
    for ranks in (first, other):
        ranks.leave()


def test_a_process_on_another_host_is_known_by_its_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    store = HashStore()
    store.set("hello/1", json.dumps({"place": "elsewhere", "process": os.getpid()}))
    monkeypatch.setattr(module, "LOST", 0.3)
    first = Ranks(store, World(0, 2), StopRequest())
    with pytest.raises(LostError, match="Process 1 of 2 left the run") as caught:
        first.ready("settings")
    assert caught.value.exit_code == 75
    assert "it ran on elsewhere" in caught.value.seen
    first.leave()


def test_a_rank_passes_over_items_that_are_made_and_refuses_others(tmp_path: Path) -> None:
    keeper = Keeper(Checkpoints(tmp_path, every=1e9), share=Portion("later/0", frozenset({0})))
    made: list[int] = []
    do_items(keeper, ["first/0"], done=lambda number: True, make=made.append, say=lambda text: None)
    assert made == []
    with pytest.raises(GuardError, match="do not find the same items"):
        do_items(keeper, ["first/0"], done=lambda number: False, make=made.append, say=lambda text: None)


@pytest.mark.parametrize("error", [DataError("7.png is broken", seen="it ends", do="Mend it."), ConfigError("No.")])
def test_an_error_is_told_as_it_is(error: GuardError) -> None:
    found = heard(told(error, "process 1 of 2").encode())
    assert (type(found), found.what, found.do) == (type(error), error.what, error.do)
    assert found.seen == ("it ends; on process 1 of 2" if error.seen else "on process 1 of 2")
    assert found.exit_code == 2


def test_any_other_error_is_told_with_its_traceback() -> None:
    found = heard(told(ZeroDivisionError("by zero"), "process 1 of 2").encode())
    assert (type(found), found.exit_code) == (GuardError, 1)
    assert found.what == "A process of the run failed: ZeroDivisionError: by zero"


def test_an_order_travels_as_text() -> None:
    order = Order("distill", "runs/a", "make/0", [1, 4, 5])
    assert Order.of(order.as_text().encode()) == order
    assert [list(order.numbers(rank, 2)) for rank in range(2)] == [[1, 5], [4]]
