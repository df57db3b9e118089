"""Running out of memory, said in terms of the option that asked for too much."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

import torch

from guard_plugins.errors import TrainingError

# What PyTorch raises, as plain RuntimeErrors, where the CPU's allocator or a library on the GPU fails; a GPU that other
# processes fill answers like the last two.
_SAID: Final = ("can't allocate memory", "not enough memory", "CUDA error: out of memory", "ALLOC_FAILED")


def out_of_memory(error: BaseException | None) -> bool:
    """Return whether an error means that memory ran out, on a device or on the host."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error) for said in _SAID)


@contextlib.contextmanager
def memory_asked_by(option: str) -> Iterator[None]:
    """Turn running out of memory in the body into an error that names the option to lower.

    Raises:
        TrainingError: If the body ran out of memory, on the device or on the host.
    """
    try:
        yield
    except Exception as error:
        if not out_of_memory(error):
            raise
        raise TrainingError(
            "Out of memory", seen=str(error).splitlines()[0] if str(error) else type(error).__name__,
            do=f"Lower {option} in a new run; --teacher RUN/teacher.safetensors reuses a finished teacher.",
        ) from error  # fmt: skip
