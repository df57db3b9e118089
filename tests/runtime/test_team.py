"""A team sums over its ranks, and lets go of those that wait when one fails; here each rank is a thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch.distributed import HashStore

from guard_plugins.errors import DataError, GuardError, LostError
from guard_plugins.runtime.sharing import team as module
from guard_plugins.runtime.sharing.ranks import Ranks
from guard_plugins.runtime.sharing.team import Team
from guard_plugins.runtime.sharing.world import World
from guard_plugins.runtime.signals import StopRequest

SIZE = 3
Work = Callable[[Team, Ranks], Any]


@pytest.fixture
def ranks() -> Iterator[list[Ranks]]:
    store = HashStore()
    known = [Ranks(store, World(rank, SIZE), StopRequest()) for rank in range(SIZE)]
    yield known
    for each in known:
        each.leave()


def all_do(ranks: list[Ranks], work: Work) -> list[Any]:
    """Return what each rank finds, or the error it ends with."""

    def one(rank: Ranks) -> Any:
        try:
            with Team(rank, torch.device("cpu")) as team:
                return work(team, rank)
        except GuardError as error:
            return error

    with ThreadPoolExecutor(SIZE) as pool:
        return list(pool.map(one, ranks))


def test_sums_means_and_largest_numbers_are_those_of_all(ranks: list[Ranks]) -> None:
    def work(team: Team, _: Ranks) -> tuple[Any, ...]:
        total, double = torch.tensor([1.0 + team.rank, 2.0]), torch.tensor([[team.rank]], dtype=torch.float64)
        mean = total.clone().view(1, 2)
        team.add(total)
        team.average([mean, double])
        return total.tolist(), mean.tolist(), double.item(), team.largest(team.rank, -team.rank), team.agreed(None)

    assert all_do(ranks, work) == [([6.0, 6.0], [[2.0, 2.0]], 1.0, [2, 0], None)] * SIZE


def test_a_signal_is_known_to_all_after_the_same_step(ranks: list[Ranks]) -> None:
    assert all_do(ranks, lambda team, _: team.agreed(15 if team.rank == 1 else None)) == [15] * SIZE


def test_an_error_in_one_is_that_of_those_who_wait(ranks: list[Ranks]) -> None:
    def work(team: Team, mine: Ranks) -> None:
        if team.rank == 1:
            mine.fail(DataError("The image 7.png is broken"))
            return
        team.add(torch.zeros(2))

    first, _, other = all_do(ranks, work)
    assert isinstance(first, DataError)
    assert isinstance(other, DataError)
    assert first.what == other.what == "The image 7.png is broken"
    assert "on process 1 of 3" in first.seen


def test_a_connection_that_nobody_explains_is_an_error_itself(
    ranks: list[Ranks], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    first, _, other = all_do(ranks, lambda team, _: team.rank == 1 or team.add(torch.zeros(2)))
    assert isinstance(first, LostError)
    assert isinstance(other, LostError)
    assert "can no longer reach each other" in first.what


def test_one_that_fails_before_it_is_there_lets_go_of_those_that_are(ranks: list[Ranks]) -> None:
    def one(rank: Ranks) -> str:
        if rank.rank == 1:
            rank.fail(DataError("The image 7.png is broken"))
            return ""
        with pytest.raises(DataError, match="is broken"):
            Team(rank, torch.device("cpu"))
        return "heard"

    with ThreadPoolExecutor(SIZE) as pool:
        assert list(pool.map(one, ranks)) == ["heard", "", "heard"]


def test_states_that_differ_are_refused(ranks: list[Ranks]) -> None:
    for found in all_do(ranks, lambda team, _: team.require_same(4 + team.rank)):
        assert isinstance(found, GuardError)
        assert found.seen == "4 to 6 steps are done"
