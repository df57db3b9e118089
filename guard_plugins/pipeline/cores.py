"""Cores of a CPU that a run would leave idle: small networks take one thread, and a second process takes items."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import torch

from guard_plugins.artifacts.folder import RunFolder
from guard_plugins.errors import ConfigError
from guard_plugins.networks.work import operations
from guard_plugins.pipeline.declared import task_for
from guard_plugins.pipeline.preparation import Prepared
from guard_plugins.runtime.keeping.checkpoints import Checkpoints
from guard_plugins.runtime.keeping.keeper import Keeper
from guard_plugins.runtime.monitor import Monitor
from guard_plugins.runtime.seeds import preserved_streams
from guard_plugins.runtime.sharing.helpers import Helpers, threads

SMALL: Final = 5_000_000
"""Operations on an image up to which a network gains nothing from a second thread: batches of 64 are done in a
millisecond a layer. The small ResNet takes 1.5 million at 8x8 pixels and 25 million at 32x32."""
PIXELS: Final = 64 * 64
"""Pixels of an image up to which a second process is started unasked; it holds the data and the networks once more."""


@dataclass(frozen=True)
class Beside:
    """What a command may start beside the run.

    Attributes:
        processes: Processes that were asked for; None for as many as suit the run.
        program: The module that a further process runs.
    """

    processes: int | None
    program: str


@dataclass(frozen=True)
class Cores:
    """How a run uses the cores.

    Attributes:
        processes: Number of processes.
        small: Whether its networks are so small that a process takes one thread.
    """

    processes: int = 1
    small: bool = False

    @classmethod
    def of(cls, prepared: Prepared, asked: int | None) -> Cores:
        """Return how a run uses the cores of this machine.

        Args:
            prepared: The run.
            asked: Processes that were asked for; None for as many as suit it.

        Raises:
            ConfigError: If several were asked for and cannot be used.
        """
        several = asked is not None and asked > 1
        why = _one_only(prepared)
        if several and why:
            raise ConfigError(f"{why}, so the run has one process (--processes)", seen=f"--processes {asked}",
                do="Leave --processes out. On several GPUs: torchrun --nproc-per-node N --no-python guard-run ...",
            )  # fmt: skip
        if prepared.engine.device.type != "cpu":
            return cls()
        free = not why and torch.get_num_threads() > 1 and math.prod(prepared.data.image_shape[1:]) <= PIXELS
        return cls(asked or (2 if free else 1), _small(prepared))


def _one_only(prepared: Prepared) -> str:
    """Return why a run has one process; empty where it may have several."""
    if prepared.engine.device.type != "cpu":
        return f"The device is {prepared.engine.device.type}"
    if prepared.config._given is not None:
        return "The method is a class that other processes do not have"
    return ""


def _small(prepared: Prepared) -> bool:
    """Return whether all networks of a run are small."""
    student = prepared.config.student
    task = prepared.task(Monitor(quiet=True), Keeper(Checkpoints(None, every=math.inf)))
    with preserved_streams():
        networks = [task_for(task, spec).network(stage="teacher") for spec in prepared.teachers]
        networks.append(task.network(student.network, student.activation, stage="student"))
        return all(operations(network, prepared.data.image_shape) <= SMALL for network in networks)


def own_threads(prepared: Prepared) -> contextlib.AbstractContextManager[None]:
    """Return a context with the threads that a run of one process has: one where its networks are small."""
    return threads(1) if Cores.of(prepared, 1).small else contextlib.nullcontext()


@contextlib.contextmanager
def cores_used(prepared: Prepared, folder: RunFolder, beside: Beside | None) -> Iterator[Helpers | None]:
    """Yield the processes beside a run, and end them afterwards; a small network's run takes one thread meanwhile.

    Args:
        prepared: The run.
        folder: Its folder.
        beside: What may be started; None for nothing.

    Raises:
        ConfigError: If processes were asked for that cannot be used.
    """
    cores, available = Cores.of(prepared, 1 if beside is None else beside.processes), torch.get_num_threads()
    with threads(1) if cores.small else contextlib.nullcontext():
        if beside is None or cores.processes == 1:
            yield None
            return
        helpers = Helpers(
            folder.path, cores.processes - 1, program=beside.program, threads=1 if cores.small else available,
            ahead=cores.small,
        )  # fmt: skip
        at_work = True
        try:
            yield helpers
            at_work = False
        finally:
            helpers.close(at_work=at_work)
