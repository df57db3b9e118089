"""Running out of memory names the option to lower."""

from __future__ import annotations

import pytest
import torch

from guard_plugins.errors import ConfigError, TrainingError
from guard_plugins.host import PluginHost
from guard_plugins.pipeline.plugin_calls import calling
from guard_plugins.runtime.engine import Engine
from guard_plugins.runtime.memory import memory_asked_by, out_of_memory


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


@pytest.mark.parametrize("said", ["CUDA error: out of memory", "CUDNN_STATUS_ALLOC_FAILED"])
def test_what_a_full_gpu_says_is_recognised(said: str) -> None:
    assert out_of_memory(RuntimeError(said))
    assert not out_of_memory(RuntimeError("CUDA error: device-side assert triggered"))
    assert not out_of_memory(ValueError(said))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes"),
    ],
)
def test_memory_exhausted_inside_a_method_is_not_the_method_s_fault(error: Exception) -> None:
    plugin = PluginHost(only=["noise"]).methods.registered("noise")
    with (
        pytest.raises(TrainingError, match="Out of memory"),
        memory_asked_by("--teacher.batch-size"),
        calling(plugin, "x"),
    ):
        raise error


def test_a_gpu_that_is_busy_is_refused_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable\nCUDA kernel errors might be")

    monkeypatch.setattr(torch, "zeros", busy)
    with pytest.raises(ConfigError, match="cannot be used") as caught:
        Engine("cpu")
    assert caught.value.seen == "CUDA error: CUDA-capable device(s) is/are busy or unavailable"
    assert "CUDA_VISIBLE_DEVICES" in caught.value.do
