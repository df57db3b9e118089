"""Items are made once, by whichever process, and a finished one is a file."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from guard_plugins.errors import ConfigError, DamagedError
from guard_plugins.runtime.items import join_items
from guard_plugins.runtime.keeping.checkpoints import Checkpoints
from guard_plugins.runtime.keeping.keeper import Keeper
from guard_plugins.runtime.loop import LoopState
from guard_plugins.runtime.sharing import claims
from guard_plugins.runtime.sharing.claims import claimed, holder
from guard_plugins.runtime.sharing.shares import Share, ShareDone
from guard_plugins.runtime.signals import StoppedError, StopRequest

NAMES = [f"recover/{number}" for number in range(5)]


class Maker:
    """Makes items of two rows that say their number, and remembers which."""

    def __init__(self) -> None:
        self.made: list[int] = []
        self.said: list[str] = []

    def __call__(self, number: int) -> Tensor:
        self.made.append(number)
        return torch.full((2, 3), float(number))

    def all(self, keeper: Keeper) -> Tensor:
        return join_items(keeper, NAMES, self, self.said.append)


EXPECTED = torch.arange(5.0).repeat_interleave(2)[:, None].expand(-1, 3)


def keeper(folder: Path | None, share: Share | None = None, stop: StopRequest | None = None) -> Keeper:
    return Keeper(Checkpoints(folder, every=1e9), stop or StopRequest(), share=share)


def test_without_a_folder_everything_is_made_in_memory() -> None:
    assert torch.equal(Maker().all(keeper(None)), EXPECTED)


def test_a_second_process_makes_only_what_is_missing(tmp_path: Path) -> None:
    first, stop = Maker(), StopRequest()

    def until_two(number: int) -> Tensor:
        stop.number = signal.SIGTERM if number == 2 else None
        return first(number)

    with pytest.raises(StoppedError):
        join_items(keeper(tmp_path, stop=stop), NAMES, until_two, first.said.append)
    second = Maker()
    assert torch.equal(second.all(keeper(tmp_path)), EXPECTED)
    assert (first.made, second.made) == ([0, 1, 2], [3, 4])
    assert second.said == ["3 of 5 items are finished; missing: 2 (recover/3, recover/4)"]


def test_items_of_other_inputs_are_made_again_and_damaged_ones_are_named(tmp_path: Path) -> None:
    Maker().all(keeper(tmp_path))
    again, other = Maker(), keeper(tmp_path)
    other.checkpoints.inputs = "other settings"
    again.all(other)
    assert again.made == [0, 1, 2, 3, 4]
    path = next(tmp_path.glob("item-recover-3*"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedError, match=path.name):
        Maker().all(other)


def test_the_state_of_an_item_s_loop_is_gone_when_the_item_is_finished(tmp_path: Path) -> None:
    kept = Keeper(Checkpoints(tmp_path, every=0.0))
    most = 0

    def make(number: int) -> Tensor:
        nonlocal most
        for done in (1, 2):
            kept.after(NAMES[number], done, LoopState(x=torch.ones(1)), last=done == 2)
        most = max(most, len(list(tmp_path.glob("recover-*.safetensors"))))
        return torch.ones(1)

    join_items(kept, NAMES, make, print)
    assert most == 1
    assert not list(tmp_path.glob("recover-*"))


def test_the_end_of_a_loop_is_saved_once_as_the_item(tmp_path: Path) -> None:
    kept = keeper(tmp_path)

    def make(number: int) -> Tensor:
        kept.after(NAMES[number], 1, LoopState(x=torch.ones(1)), last=True)
        return torch.ones(1)

    join_items(kept, NAMES, make, print)
    assert kept.checkpoints.count == len(NAMES)


def test_what_changes_beside_the_loops_comes_back_with_the_items(tmp_path: Path) -> None:
    def process() -> tuple[Keeper, nn.Linear]:
        rider = nn.Linear(1, 1, bias=False)
        return Keeper(Checkpoints(tmp_path, every=1e9), riders={"hook": rider}), rider

    kept, rider = process()

    def make(number: int) -> Tensor:
        nn.init.constant_(rider.weight, number)
        return torch.ones(1)

    join_items(kept, NAMES, make, print)
    kept, rider = process()
    join_items(kept, NAMES, make, print)
    assert rider.weight.item() == 4


@pytest.mark.parametrize("of", [1, 2, 3])
def test_shares_make_each_item_once_and_name_what_is_missing(tmp_path: Path, of: int) -> None:
    makers, left = [Maker() for _ in range(of)], []
    for number, maker in enumerate(makers):
        with pytest.raises(ShareDone) as caught:
            maker.all(keeper(tmp_path, Share(number, of)))
        assert caught.value.made == len(maker.made)
        left.append(caught.value.missing)
    assert sorted(number for maker in makers for number in maker.made) == [0, 1, 2, 3, 4]
    assert max(len(maker.made) for maker in makers) <= -(-5 // of)
    assert left[-1] == ()
    assert left[0] == tuple(name for number, name in enumerate(NAMES) if number % of)
    merge = Maker()
    assert torch.equal(merge.all(keeper(tmp_path)), EXPECTED)
    assert not merge.made
    assert not list(tmp_path.glob("*.claim"))


def test_a_share_takes_over_what_a_dead_process_left_and_nothing_else(tmp_path: Path) -> None:
    kept = keeper(tmp_path, Share(0, 3))
    alive, dead = kept.checkpoints.claim(NAMES[1]), kept.checkpoints.claim(NAMES[2])
    with claimed(alive) as mine:
        assert mine
        dead.write_text(json.dumps({"place": "elsewhere", "process": 1}))
        os.utime(dead, (time.time() - 2 * claims.STALE,) * 2)
        maker = Maker()
        with pytest.raises(ShareDone) as caught:
            maker.all(kept)
    assert maker.made == [0, 3, 2]
    assert caught.value.missing == ("recover/1", "recover/4")


def test_a_run_does_not_join_while_a_share_is_at_work(tmp_path: Path) -> None:
    kept = keeper(tmp_path)
    with (
        claimed(kept.checkpoints.claim(NAMES[1])),
        pytest.raises(ConfigError, match="recover/1 is being made now") as caught,
    ):
        Maker().all(kept)
    assert f"process {os.getpid()} on" in caught.value.seen


def test_a_claim_is_held_once_touched_and_freed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "HEARTBEAT", 0.01)
    path = tmp_path / "item.claim"
    with claimed(path) as mine, claimed(path) as again:
        assert (mine, again) == (True, False)
        os.utime(path, (0, 0))
        deadline = time.monotonic() + 10
        while holder(path) is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert holder(path)
    assert not path.exists()
    assert holder(path) is None


def test_the_claim_of_a_process_that_ended_here_is_nobody_s(tmp_path: Path) -> None:
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    path = tmp_path / "item.claim"
    path.write_text(json.dumps({"place": claims.place(), "process": child}))
    assert holder(path) is None
    path.write_text("half writ")
    assert holder(path) == "another process"


@pytest.mark.parametrize("text", ["", "3/3", "1", "-1/4", "1/0", "a/b", "0/1/2"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="takes i/n") as caught:
        Share.parse(text)
    assert caught.value.seen == text
