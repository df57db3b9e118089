"""A run in several processes: the first does it as if it were alone, and the others make the items that it deals."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from guard_plugins.artifacts.folder import RunFolder
from guard_plugins.config import RunConfig
from guard_plugins.config.schema import Level
from guard_plugins.host.configure import host_of
from guard_plugins.pipeline.context import RunContext
from guard_plugins.pipeline.preparation import Prepared, build_method, prepare
from guard_plugins.pipeline.processes.shares import make_share
from guard_plugins.pipeline.run import Done, settings_of, start
from guard_plugins.pipeline.stages.teacher import TeacherStage
from guard_plugins.pipeline.teachers.training import Training
from guard_plugins.runtime.engine import repeatable
from guard_plugins.runtime.memory import memory_asked_by
from guard_plugins.runtime.seeds import preserved_streams
from guard_plugins.runtime.sharing.meeting import joined
from guard_plugins.runtime.sharing.ranks import Ranks
from guard_plugins.runtime.sharing.told import Order
from guard_plugins.runtime.sharing.world import World, as_if_alone
from guard_plugins.runtime.signals import StopRequest


def start_together(
    config: RunConfig, world: World, *, resumed: Path | None = None, until: str | None = None, level: Level = "normal"
) -> Done | int:
    """Do a run, new or resumed, in all processes that the launcher started.

    Args:
        config: The resolved configuration.
        world: Which of the processes this is.
        resumed: The folder of a run to go on with.
        until: Name of the last stage to do.
        level: How much is said on the terminal, by the first process.

    Returns:
        What the run did, in the first process; in the others the exit code of the first.

    Raises:
        GuardError: If anything is wrong, in any of the processes.
    """
    with _deaf_afterwards(), StopRequest().listening() as stop, as_if_alone(), joined(world, stop) as ranks:
        if torch.cuda.is_available():
            torch.cuda.set_device(world.on_host % torch.cuda.device_count())
        if world.rank:
            return _follow(ranks, config)
        with _closing(ranks):
            return start(config, resumed=resumed, until=until, level=level, ranks=ranks)


@contextlib.contextmanager
def _closing(ranks: Ranks) -> Iterator[None]:
    """Tell all others how the body ended."""
    error: BaseException | None = None
    try:
        yield
    except BaseException as raised:
        error = raised
        raise
    finally:
        ranks.close(error)


def _follow(ranks: Ranks, config: RunConfig) -> int:
    """Make what the first process deals, and return the exit code that the run ends with.

    Raises:
        LostError: If the first process is gone.
    """
    with preserved_streams(), repeatable(), _failing_together(ranks):
        prepared = prepare(config, host_of(config))
        ranks.ready(settings_of(config))
        for order in ranks.orders():
            with _failing_together(ranks):
                _obey(ranks, prepared, order)
    error = ranks.outcome()
    return 0 if error is None else error.exit_code


@contextlib.contextmanager
def _failing_together(ranks: Ranks) -> Iterator[None]:
    """Have what the body raises end the run in all processes; this one hears of the end as the others do."""
    try:
        yield
    except Exception as error:
        ranks.fail(error)


def _obey(ranks: Ranks, prepared: Prepared, order: Order) -> None:
    """Make this rank's items of an order, or train a teacher along; the method knows nothing of earlier orders."""
    method, hook = build_method(prepared.config, prepared.host)
    share = order.portion(ranks.rank, ranks.size)
    fresh = replace(prepared, method=method, hook=hook)
    run = RunContext.start(fresh, RunFolder(Path(order.folder)), ranks.stop, share=share)
    if not order.inputs:
        make_share(run, order.stage)
        return
    run.checkpoints.inputs = order.inputs
    with memory_asked_by(TeacherStage.memory_option):
        Training(run, order.missing[0]).along(ranks)


@contextlib.contextmanager
def _deaf_afterwards() -> Iterator[None]:
    """Afterwards, ignore the signal that a launcher sends to the other processes as soon as one has ended."""
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # not in the main thread
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
