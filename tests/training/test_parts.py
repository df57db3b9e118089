"""A teacher that several processes train, each on a part of every batch, is the one that one process trains."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from torch import nn
from torch.distributed import TCPStore

from guard_plugins.errors import ConfigError
from guard_plugins.runtime.sharing.ranks import Ranks
from guard_plugins.runtime.sharing.team import Team
from guard_plugins.runtime.sharing.world import World
from guard_plugins.runtime.signals import StopRequest
from guard_plugins.training.parts import ALL, Rows, require_parts
from tests.training.parts import HOOKS, RIVALS, gap


def _worker(rank: int, size: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    ranks = Ranks(TCPStore("127.0.0.1", port), World(rank, size), StopRequest())
    with Team(ranks, torch.device("cpu")) as team:
        found = {f"{name}, {steps}": gap(team, steps, hook=hook) for name, hook in HOOKS.items() for steps in (1, 8)}
        found["no image too many"] = gap(team, 4, hook={"weight": 2.0}, batch=10)
        for name in RIVALS:
            found[name] = gap(team, 4, batch=10, training=name)
        found["local sign"] = gap(team, 8, hook=HOOKS["weight 2"], local=True)
        found["local statistics"] = gap(team, 4, hook=HOOKS["weight 1"], batchnorm="local")
    if rank == 0:
        (Path(folder) / "gaps.json").write_text(json.dumps(found))
    ranks.leave()
    os._exit(0)


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 4])
def test_parts_of_every_batch_train_the_teacher_of_one_process(size: int, tmp_path: Path) -> None:
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    mp.spawn(_worker, args=(size, store.port, str(tmp_path)), nprocs=size)
    found = json.loads((tmp_path / "gaps.json").read_text())
    sign, opposite, _ = found.pop("local sign")
    assert opposite
    assert sign > 0.1, "with signs of their own, the processes train something else"
    assert found.pop("local statistics")[0] > 0.1, "with statistics of their own, the processes train another network"
    assert {name: value for name, (value, *_) in found.items() if value > 1e-12} == {}
    assert {name: value for name, (*_, value) in found.items() if value > 1e-5} == {}, "measured in float32"
    assert any(opposite for _, opposite, _ in found.values())


@pytest.mark.parametrize(("size", "total"), [(2, 8), (4, 10), (3, 3)])
def test_every_image_is_in_one_part_and_the_mean_of_the_losses_is_that_of_the_batch(size: int, total: int) -> None:
    whole = torch.arange(float(total))
    parts = [Rows(rank, size, total) for rank in range(size)]
    taken = [rows.take(whole) for rows in parts]
    assert sorted(torch.cat(taken).tolist()) == whole.tolist()
    losses = [rows.scaled(part.mean()) for rows, part in zip(parts, taken, strict=True)]
    assert float(sum(losses)) / size == pytest.approx(float(whole.mean()))
    assert ALL.take(whole) is whole
    assert ALL.scaled(whole) is whole


def test_layers_that_know_one_part_only_are_refused() -> None:
    class Own(nn.BatchNorm2d):
        """A plugin's."""

    require_parts(nn.Sequential(nn.BatchNorm2d(2), nn.GroupNorm(1, 2)), "global")
    require_parts(nn.Sequential(Own(2)), "local")
    with pytest.raises(ConfigError, match="one process's part of a batch only") as caught:
        require_parts(nn.Sequential(nn.BatchNorm2d(2), Own(2)), "global")
    assert caught.value.seen == "1"
    with pytest.raises(ConfigError, match="has no BatchNorm"):
        require_parts(nn.Sequential(nn.GroupNorm(1, 2)), "local")
