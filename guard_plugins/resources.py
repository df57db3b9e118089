"""Running out of memory, said in terms of the option that asked for too much."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from guard_plugins.errors import TrainingError


@contextlib.contextmanager
def memory_asked_by(option: str) -> Iterator[None]:
    """Turn running out of memory in the body into an error that names the option to lower.

    Raises:
        TrainingError: If the body ran out of memory, on the device or on the host.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise TrainingError(
            "Out of memory", seen=str(error).splitlines()[0] if str(error) else type(error).__name__,
            do=f"Lower {option}, then go on with --resume or start again; finished stages are kept.",
        ) from error  # fmt: skip
    except RuntimeError as error:
        # What PyTorch raises where the CPU's allocator fails.
        if "can't allocate memory" not in str(error) and "not enough memory" not in str(error):
            raise
        raise TrainingError("Out of memory", seen=str(error).splitlines()[0], do=f"Lower {option}.") from error
