"""Work that comes in items: a finished item is a file with a hash, and the state of its loop is gone."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from torch import Tensor

from guard_plugins.artifacts.sets.streamed import joined
from guard_plugins.errors import ConfigError, GuardError
from guard_plugins.runtime.keeping.keeper import Keeper
from guard_plugins.runtime.sharing.claims import claimed, holder
from guard_plugins.runtime.sharing.shares import ShareDone, listed

Say = Callable[[str], None]
WAIT: Final = 0.02
"""Seconds between two looks at items that helpers make."""


def do_items(
    keeper: Keeper, names: Sequence[str], *, done: Callable[[int], bool], make: Callable[[int], None], say: Say
) -> None:
    """Make the items that are not done; of a process with a share, its own and those that another left behind.

    The first of several ranks deals them over all. Helpers make some of them meanwhile.

    Args:
        keeper: Where claims go, and which share this process has.
        names: Names of the items, in their order.
        done: Whether an item is finished, by its number.
        make: Makes an item and keeps it.
        say: Says what is missing of items that others began.

    Raises:
        ShareDone: If the process has a share, when that is done.
        ConfigError: If another process is at work on an item, and this one has no share.
        StoppedError: If the run was asked to stop; finished items are kept.
        GuardError: If another rank failed or is gone.
    """
    missing = [number for number in range(len(names)) if not done(number)]
    share, made = keeper.share, 0
    if share is None and keeper.helpers is None and 0 < len(missing) < len(names):
        say(f"{len(names) - len(missing)} of {len(names)} items are finished; missing: {_some(names, missing)}")
    if keeper.ranks is not None and len(missing) > 1:
        say(f"{len(missing)} items ({names[missing[0]]}, ...) over {min(len(missing), keeper.ranks.size)} processes")
        with keeper.ranks.dealing(names, missing) as own:
            for number in own:
                _make(keeper, number, names, done, make)
        missing = [number for number in missing if not done(number)]
    if share is not None and not share.covers(names):
        _require_none(names, missing)
        return
    if share is None:
        _make_all(keeper, missing, names, done, make)
        return
    own = share.own(missing)
    for number in own:
        made += _make(keeper, number, names, done, make)
    for number in [n for n in missing if share.takes_over and n not in own and _left_behind(keeper, names[n])]:
        made += _make(keeper, number, names, done, make)
    raise ShareDone(made, [names[number] for number in missing if not done(number)])


def join_items(keeper: Keeper, names: Sequence[str], make: Callable[[int], Tensor], say: Say) -> Tensor:
    """Return the tensors of all items one after the other; an item that an earlier process finished is read.

    Args:
        keeper: Where finished items are kept, and which of them are this process's.
        names: Names of the items; a loop that makes one has the same name.
        make: From the number of an item to its tensor, on the CPU; all of one type, equal but for the first dimension.
        say: Says what is missing of items that others began.

    Raises:
        ShareDone: If the process has a share of the items, when that is done.
        ConfigError: If another process is at work on an item, and this one has no share.
        StoppedError: If the run was asked to stop; finished items are kept.
        DamagedError: If the file of an item is damaged.
        ArtifactError: If an item cannot be written.
    """
    kept, here = keeper.checkpoints, set[int]()
    if kept.folder is None:
        parts = [make(number) for number in range(len(names))]
        return joined(parts, rows=sum(map(len, parts)), folder=None)

    def keep(number: int) -> None:
        with kept.making(names[number]):
            tensor = make(number)
            kept.save(_file(names[number]), len(tensor), lambda: {"tensor": tensor, "riders": keeper.riding()})
        kept.drop(names[number])
        here.add(number)

    do_items(keeper, names, done=lambda number: kept.peek(_file(names[number])) is not None, make=keep, say=say)
    if len(names) - 1 not in here:
        _ride(keeper, names[-1])
    rows = sum(kept.peek(_file(name)) or 0 for name in names)
    return joined((_read(keeper, name)["tensor"] for name in names), rows=rows, folder=kept.folder)


def _make_all(
    keeper: Keeper, missing: Sequence[int], names: Sequence[str], done: Callable[[int], bool],
    make: Callable[[int], None],
) -> None:  # fmt: skip
    """Make every item that no helper makes, and wait for those that one makes."""
    if keeper.helpers is None or not keeper.helpers.serve(names):
        for number in missing:
            _make(keeper, number, names, done, make)
        return
    with keeper.helpers.asked(names, missing):
        while missing:
            for number in missing:
                if not done(number):
                    _make(keeper, number, names, done, make)
            missing = [number for number in missing if not done(number)]
            keeper.stop.check()
            time.sleep(WAIT if missing else 0)


def _make(
    keeper: Keeper, number: int, names: Sequence[str], done: Callable[[int], bool], make: Callable[[int], None]
) -> bool:
    """Make an item under a claim, and return whether it was made here.

    Raises:
        ConfigError: If another process has the claim, and this one has no share.
    """
    path = keeper.checkpoints.claim(names[number])
    with claimed(path) as mine:
        if mine and not done(number):
            make(number)
            keeper.stop.check()
            return True
    if not mine and keeper.share is None and keeper.helpers is None:
        raise ConfigError(
            f"The item {names[number]} is being made now", seen=f"{holder(path) or 'another process'} is at work on it",
            do="Wait until all shares are done, then resume the run.",
        )  # fmt: skip
    return False


def _require_none(names: Sequence[str], missing: Sequence[int]) -> None:
    """Return if no item is missing of others than were dealt, which the first rank made before it dealt these.

    Raises:
        GuardError: If one is.
    """
    if missing:
        raise GuardError(
            "The processes of the run do not find the same items", seen=f"missing: {_some(names, missing)}",
            do="They must share the run's folder, and a method must ask for its items in the same order everywhere.",
        )  # fmt: skip


def _left_behind(keeper: Keeper, name: str) -> bool:
    path = keeper.checkpoints.claim(name)
    return path.exists() and holder(path) is None


def _some(names: Sequence[str], numbers: Sequence[int]) -> str:
    return listed([names[number] for number in numbers])


def _file(name: str) -> str:
    return f"item/{name}"


def _ride(keeper: Keeper, name: str) -> None:
    """Take over what changed beside the loops up to an item of another process."""
    try:
        keeper.ride(_read(keeper, name)["riders"])
    except (LookupError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise keeper.checkpoints.unusable(_file(name), f"{type(error).__name__}: {error}".splitlines()[0]) from error


def _read(keeper: Keeper, name: str) -> dict[str, Any]:
    saved = keeper.checkpoints.load(_file(name))
    if saved is None or not isinstance(saved[1].get("tensor"), Tensor):
        raise keeper.checkpoints.unusable(_file(name), "it holds no finished item")
    return saved[1]
