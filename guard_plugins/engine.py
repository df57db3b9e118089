"""Where and how tensors are computed: the one module that knows Accelerate and its process-wide state."""

from __future__ import annotations

from typing import Any, TypeVar, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from guard_plugins.errors import ConfigError

M = TypeVar("M", bound=nn.Module)


class Engine:
    """Device, process group and backward pass of a run.

    Args:
        device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda`` or ``mps``.

    Raises:
        ConfigError: If the device asked for is not there.
    """

    def __init__(self, device: str = "auto") -> None:
        _require(device)
        self._accelerator = Accelerator(cpu=device == "cpu")

    @property
    def device(self) -> torch.device:
        """The device of this process."""
        return cast(torch.device, self._accelerator.device)

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and talks to the terminal."""
        return bool(self._accelerator.is_main_process)

    def model(self, model: M) -> M:
        """Return ``model`` on the device, wrapped for several processes where there are several."""
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
        return {"device": str(device), "name": name, "processes": self._accelerator.num_processes}


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
