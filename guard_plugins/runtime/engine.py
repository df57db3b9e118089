"""Where and how tensors are computed: the one module that knows Accelerate and its process-wide state."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Any, Final, TypeVar, cast

import torch
from accelerate import Accelerator
from accelerate.state import is_initialized
from accelerate.utils import parse_flag_from_env
from torch import Tensor, nn

from guard_plugins.errors import ConfigError
from guard_plugins.runtime.sharing.world import require_one_process

M = TypeVar("M", bound=nn.Module)


class _Turn:
    """A lock for the thread that draws from the global random streams; a forked process begins with a free one."""

    def __init__(self) -> None:
        self._lock, self._process = threading.RLock(), os.getpid()

    def lock(self) -> threading.RLock:  # type: ignore[valid-type]
        """Return the lock; its holder keeps it at hand, to release it."""
        if self._process != os.getpid():
            self._lock, self._process = threading.RLock(), os.getpid()
        return self._lock


_TURN: Final = _Turn()


class Engine:
    """Device and backward pass of a run.

    Attributes:
        device: The device of this engine.

    Args:
        device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda`` or ``mps``.

    Raises:
        ConfigError: If the device asked for is not there or cannot be used, or this is one of several processes.
    """

    def __init__(self, device: str = "auto") -> None:
        _require(device)
        require_one_process()  # Accelerate itself reports one process of torchrun's where there is no GPU
        # Accelerate keeps one device for the whole process: it can be told "CPU" by the first to ask only.
        self._accelerator = Accelerator(cpu=device == "cpu" and not is_initialized())
        self.device = _device(device, self._accelerator.device)
        if self._accelerator.mixed_precision != "no" and self._accelerator.device.type != self.device.type:
            raise ConfigError(
                "Mixed precision works on one device in a process, the first that was used",
                seen=f"{self._accelerator.mixed_precision} on {self._accelerator.device}, and now {self.device}",
                do="Start a process for each device, or leave ACCELERATE_MIXED_PRECISION out.",
            )
        _try(self.device)

    def placed(self, model: M) -> M:
        """Return ``model`` on the device, in place, with its weights in the order convolutions are fastest in there.

        On CUDA that is channels last: 1.6 times the images per second of a ResNet-18 on an H100, batch 512, in float32.
        """
        layout = torch.channels_last if self.device.type == "cuda" else torch.preserve_format
        return cast(M, model.to(self.device, memory_format=layout))  # type: ignore[call-overload]  # missed by the stubs

    def model(self, model: M) -> M:
        """Return ``model`` on the device, with the arithmetic Accelerate is configured for."""
        return cast(M, self._accelerator.prepare_model(self.placed(model), device_placement=False))

    def optimizer(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """Return ``optimizer`` prepared for this device."""
        return cast(torch.optim.Optimizer, self._accelerator.prepare_optimizer(optimizer, device_placement=False))

    def backward(self, loss: Tensor) -> None:
        """Differentiate ``loss`` with respect to the weights."""
        self._accelerator.backward(loss)

    def describe(self) -> dict[str, Any]:
        """Return what a manifest records about the machine's devices."""
        device = self.device
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        return {"device": str(device), "name": name}


@contextlib.contextmanager
def repeatable() -> Iterator[None]:
    """While open, the same work gives the same bits on a CUDA device too, as it does on a CPU.

    So a resumed run ends as the uninterrupted one. Operations without a repeatable form there warn and go on, such as
    the gradient of ``grid_sample`` in DC's DSA. These are settings of the process: runs in several threads at a time
    would undo each other's.
    """
    if not torch.cuda.is_available():
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read by cuBLAS at its first use
    known, lenient = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic  # a property the stubs do not know
    filled, chosen = memory.fill_uninitialized_memory, torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True, warn_only=True)
    memory.fill_uninitialized_memory = torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(known, warn_only=lenient)
        memory.fill_uninitialized_memory, torch.backends.cudnn.benchmark = filled, chosen


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Keep other threads of the process from starting a run or an evaluation while open.

    Raises:
        ConfigError: If another thread is at work.
    """
    lock = _TURN.lock()
    if not lock.acquire(blocking=False):
        raise ConfigError(
            "Another thread of this process is at work on a run or an evaluation, and both would draw from the same "
            "random streams",
            do="Wait for it, or start each in a process of its own.",
        )
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def ordinary() -> Iterator[None]:
    """Compute in float32 with gradients, and on the CPU where no device is named, whatever the caller has set.

    The default dtype and device, ``no_grad``, inference mode and autocast of the program around a run would change its
    numbers or end it. They are put back on leaving. What runs inside sets no default device of its own.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for kind in ("cpu", "cuda", "mps"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        stack.callback(torch.set_default_dtype, torch.get_default_dtype())
        torch.set_default_dtype(torch.float32)
        yield


def _device(name: str, known: torch.device) -> torch.device:
    """Return the device of a name, where ``known`` is what Accelerate took for this process."""
    if name == known.type:
        return known
    if name != "auto":
        return torch.device(name)
    if known.type != "cpu" or parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available():
        return known
    return torch.accelerator.current_accelerator() or known  # the CPU was only the first to be asked for


def _require(device: str) -> None:
    available = {
        "auto": True, "cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(),
    }  # fmt: skip
    if not available[device]:
        raise ConfigError(
            f"The device {device!r} was asked for (--device), but PyTorch finds none",
            seen=f"torch {torch.__version__}, built for CUDA {torch.version.cuda}",
            do="Use --device auto or cpu, or install a driver and a PyTorch build that fit the device.",
        )


def _try(device: torch.device) -> None:
    """Refuse a device that is there but does no work, before any is given to it."""
    try:
        torch.zeros(1, device=device).add_(1)
    except RuntimeError as error:
        raise ConfigError(
            f"The device {str(device)!r} cannot be used (--device)", seen=str(error).splitlines()[0],
            do="Wait until other processes leave it, choose another with CUDA_VISIBLE_DEVICES, or use --device cpu.",
        ) from error  # fmt: skip
