"""Finished items of an evaluation are on disk before a stop, whatever the cadence."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import torch

from guard_plugins.runtime.keeping.checkpoints import Checkpoints
from guard_plugins.runtime.keeping.keeper import Keeper
from guard_plugins.runtime.keeping.resumable import WorkList


def work(folder: Path, *, stopping: bool) -> WorkList[dict[str, Any]]:
    keeper = Keeper(Checkpoints(folder, every=1e9))
    keeper.stop.number = signal.SIGTERM if stopping else None
    return WorkList(keeper, "some", read=dict, write=dict)


def test_what_is_saved_before_the_cadence_asks_for_it(tmp_path: Path) -> None:
    going = work(tmp_path / "going", stopping=False)
    going.add({"n": 1}, last=False)
    going.keep({"left": torch.ones(2)})
    assert not (tmp_path / "going").exists()
    stopping = work(tmp_path / "stopping", stopping=True)
    stopping.add({"n": 1}, last=False)
    assert work(tmp_path / "stopping", stopping=False).results == [{"n": 1}]
    stopping.keep({"left": torch.ones(2)})
    later = work(tmp_path / "stopping", stopping=False)
    assert later.underway is not None
    assert torch.equal(later.underway["left"], torch.ones(2))
    later.add({"n": 2}, last=True)
    after = work(tmp_path / "stopping", stopping=False)
    assert (after.results, after.underway) == ([{"n": 1}, {"n": 2}], None)
