"""Where and how tensors are computed: the one module that knows Accelerate and its process-wide state."""

from __future__ import annotations

from typing import Any, TypeVar, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from guard_plugins.errors import ConfigError

M = TypeVar("M", bound=nn.Module)


class Engine:
    """Device and backward pass of a run.

    Args:
        device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda`` or ``mps``.

    Raises:
        ConfigError: If the device asked for is not there or cannot be used, or this is one of several processes.
    """

    def __init__(self, device: str = "auto") -> None:
        _require(device)
        self._accelerator = Accelerator(cpu=device == "cpu")
        if self._accelerator.num_processes > 1:
            raise ConfigError(
                "A run works in one process",
                seen=f"this is one of {self._accelerator.num_processes}, started by torchrun, accelerate launch or MPI",
                do="Start the command itself; for several devices, start several runs (seeds, methods), one on each.",
            )
        _try(self.device)

    @property
    def device(self) -> torch.device:
        """The device of this process."""
        return cast(torch.device, self._accelerator.device)

    def model(self, model: M) -> M:
        """Return ``model`` on the device, with the arithmetic Accelerate is configured for."""
        return cast(M, self._accelerator.prepare_model(model))

    def optimizer(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """Return ``optimizer`` prepared for this device."""
        return cast(torch.optim.Optimizer, self._accelerator.prepare_optimizer(optimizer))

    def backward(self, loss: Tensor) -> None:
        """Differentiate ``loss`` with respect to the weights."""
        self._accelerator.backward(loss)

    def describe(self) -> dict[str, Any]:
        """Return what a manifest records about the machine's devices."""
        device = self.device
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        return {"device": str(device), "name": name}


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
