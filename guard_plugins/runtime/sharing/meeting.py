"""Where the ranks of a run meet."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from guard_plugins.errors import ConfigError
from guard_plugins.runtime.sharing.ranks import Ranks
from guard_plugins.runtime.sharing.world import World
from guard_plugins.runtime.signals import StopRequest


@contextlib.contextmanager
def joined(world: World, stop: StopRequest) -> Iterator[Ranks]:
    """Join the other ranks at the rendezvous that the launcher names.

    Args:
        world: Which process this is.
        stop: Becomes set when any rank is asked to stop, or fails.

    Raises:
        ConfigError: If the launcher names no rendezvous, or nobody is there.
    """
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    try:
        store, *_ = next(rendezvous("env://", world.rank, world.size))
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            "The processes of the run cannot meet", seen=str(error).splitlines()[0],
            do="Start them with torchrun, or set MASTER_ADDR to the host of the first and MASTER_PORT to a free port.",
        ) from error  # fmt: skip
    ranks = Ranks(PrefixStore("guard-run", store), world, stop)
    try:
        yield ranks
    finally:
        ranks.leave()
