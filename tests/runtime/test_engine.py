"""Where a run computes."""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from typing import Any

import pytest
import torch
from accelerate.state import PartialState
from torch import nn

from guard_plugins.errors import ConfigError
from guard_plugins.runtime.engine import Engine, _device, alone, repeatable

NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def _settings() -> tuple[bool, ...]:
    memory: Any = torch.utils.deterministic  # a property the stubs do not know
    return (
        torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled(),
        memory.fill_uninitialized_memory, torch.backends.cudnn.benchmark,
    )  # fmt: skip


def _fail_inside() -> None:
    with repeatable():
        assert _settings() == (True, True, False, False)
        raise ZeroDivisionError


def test_a_process_may_work_on_one_device_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accelerate remembers the first device it was asked for, a GPU here, and refuses to be told another."""
    Engine("cpu")
    monkeypatch.setitem(PartialState._shared_state, "device", torch.device("cuda"))
    engine = Engine("cpu")
    net = engine.model(nn.Linear(2, 1))
    optimizer = engine.optimizer(torch.optim.SGD(net.parameters(), lr=1.0))
    engine.backward(net(torch.ones(1, 2)).sum())
    optimizer.step()
    assert engine.device == torch.device("cpu")
    assert {weight.device.type for weight in net.parameters()} == {"cpu"}


def test_mixed_precision_of_another_device_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Autocast would be switched on for the first device and leave this one at full precision, silently."""
    Engine("cpu")
    monkeypatch.setitem(PartialState._shared_state, "device", torch.device("cuda"))
    monkeypatch.setattr("accelerate.Accelerator.mixed_precision", "bf16")
    with pytest.raises(ConfigError, match="one device in a process") as caught:
        Engine("cpu")
    assert "bf16 on cuda, and now cpu" in caught.value.seen
    assert "ACCELERATE_MIXED_PRECISION" in caught.value.do


@pytest.mark.parametrize(
    ("name", "known", "there", "environment", "device"),
    [
        ("auto", "cuda:1", True, "", "cuda:1"),  # what Accelerate chose, such as by ACCELERATE_TORCH_DEVICE
        ("cuda", "cuda:1", True, "", "cuda:1"),
        ("cpu", "cuda:1", True, "", "cpu"),
        ("cuda", "cpu", True, "", "cuda"),
        ("auto", "cpu", False, "", "cpu"),
        ("auto", "cpu", True, "", "cuda"),  # a run on the CPU came first
        ("auto", "cpu", True, "true", "cpu"),
    ],
)
def test_the_device_is_accelerate_s_unless_another_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, name: str, known: str, there: bool, environment: str, device: str
) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: there)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setenv("ACCELERATE_USE_CPU", environment or "false")
    assert _device(name, torch.device(known)) == torch.device(device)


@NEEDS_CUDA
def test_the_cpu_can_be_asked_for_after_the_gpu() -> None:
    first, second = Engine("cuda"), Engine("cpu")
    assert (first.device.type, second.device.type, Engine("auto").device.type) == ("cuda", "cpu", "cuda")


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=NEEDS_CUDA)])
def test_a_network_is_placed_in_the_layout_of_the_device(device: str) -> None:
    net = Engine(device).placed(nn.Conv2d(3, 4, 3))  # type: ignore[arg-type]
    assert net.weight.device.type == device
    assert net.weight.is_contiguous(memory_format=torch.channels_last) == (device == "cuda")


def test_arithmetic_is_repeatable_on_a_gpu_while_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)  # as many people's scripts do
    before = _settings()
    with repeatable():
        assert torch.cuda.is_available() or _settings() == before
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    with pytest.raises(ZeroDivisionError):
        _fail_inside()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"  # the user's own choice stands
    assert _settings() == before


def test_a_forked_process_does_not_wait_for_a_thread_of_the_first() -> None:
    held, leave = threading.Event(), threading.Event()

    def work() -> None:
        with alone():
            held.set()
            leave.wait(30)

    thread = threading.Thread(target=work)
    thread.start()
    held.wait(30)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads
            child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException), alone():
                os._exit(0)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        with pytest.raises(ConfigError, match="Another thread"), alone():
            pass
    finally:
        leave.set()
        thread.join()
