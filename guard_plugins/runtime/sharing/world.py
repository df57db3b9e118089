"""Which of how many processes this is, as the program that started it says; asked before anything else."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from guard_plugins.errors import ConfigError

LAUNCHERS: Final = (
    ("RANK", "WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"),
)
"""Variables of torchrun and accelerate launch, and of three families of MPI: number of the process, number of all."""
ON_HOST: Final = (
    "LOCAL_RANK", "MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID",
)  # fmt: skip
"""Variables with the number of the process on its host."""


@dataclass(frozen=True)
class World:
    """One of several processes that work together.

    Attributes:
        rank: Number of this process, from 0.
        size: Number of all processes.
        on_host: Number of this process on its host, from 0; that of all where the launcher does not say.
    """

    rank: int = 0
    size: int = 1
    on_host: int = field(default=0, compare=False)

    @classmethod
    def of(cls, environment: Mapping[str, str] | None = None) -> World:
        """Return what the environment (the process's where None) says; one process where it says nothing.

        Raises:
            ConfigError: If a variable is no whole number, or the rank is not below the size.
        """
        known = os.environ if environment is None else environment
        for rank, size in LAUNCHERS:
            if known.get(size):
                return cls._checked(known, rank, size)
        return cls()

    @classmethod
    def _checked(cls, known: Mapping[str, str], rank: str, size: str) -> World:
        seen = f"{rank}={known.get(rank)}, {size}={known[size]}"
        try:
            local = next((known[name] for name in ON_HOST if known.get(name)), known.get(rank) or "0")
            found = cls(int(known.get(rank) or 0), int(known[size]), int(local))
        except ValueError:
            found = cls(-1, 0)
        if not 0 <= found.rank < found.size:
            raise ConfigError(
                "The environment does not say which of how many processes this is", seen=seen,
                do="Start the command with torchrun or accelerate launch, or unset these variables.",
            )  # fmt: skip
        return found


@contextlib.contextmanager
def as_if_alone() -> Iterator[None]:
    """Hide what the launcher said while the context is open: the code of a process then works as if it were alone.

    Accelerate, and plugins that use it, would otherwise form a process group and split what is dealt already.
    """
    names = {*(name for pair in LAUNCHERS for name in pair), *ON_HOST, "LOCAL_WORLD_SIZE"}
    hidden = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)


def require_one_process(command: str = "A run") -> None:
    """Return if this is the only process.

    Args:
        command: What asks, at the start of the message.

    Raises:
        ConfigError: If it is one of several.
    """
    world = World.of()
    if world.size > 1:
        raise ConfigError(
            f"{command} works in one process",
            seen=f"this is process {world.rank} of {world.size}, started by torchrun, accelerate launch or MPI",
            do="Start the command itself. Of all commands, guard-run does a run in several processes (docs/scale.md).",
        )
