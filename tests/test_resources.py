"""Running out of memory names the option to lower."""

from __future__ import annotations

import pytest
import torch

from guard_plugins.errors import TrainingError
from guard_plugins.resources import memory_asked_by


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes"),
    ],
)
def test_every_kind_of_exhausted_memory_names_the_option(error: Exception) -> None:
    with pytest.raises(TrainingError, match="Out of memory") as caught, memory_asked_by("--teacher.batch-size"):
        raise error
    assert "Lower --teacher.batch-size" in caught.value.do


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shapes"), memory_asked_by("--x"):
        raise RuntimeError("shapes do not match")


def test_a_real_failing_allocation_is_recognised() -> None:
    with pytest.raises(TrainingError, match="Out of memory"), memory_asked_by("--x"):
        torch.empty(2**60, dtype=torch.uint8)
