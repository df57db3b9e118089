"""What a replay must not change, saved and put back: random streams, autocast, flags; and which modules are called."""

from __future__ import annotations

import functools
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class RandomState:
    """The states of the global streams of Python, NumPy and PyTorch (CPU and the devices in use)."""

    python: Any
    numpy: Any
    cpu: Tensor
    devices: tuple[tuple[torch.device, Tensor], ...]

    @classmethod
    def save(cls, devices: Iterable[torch.device] = ()) -> RandomState:
        """Return the present states of the CPU's stream and of those of ``devices``."""
        others = sorted({d for d in devices if d.type not in ("cpu", "meta")}, key=str)  # meta tensors draw nothing
        arrays = _numpy_random()
        numpy = None if arrays is None else arrays.get_state(legacy=False)
        return cls(random.getstate(), numpy, torch.get_rng_state(), tuple((d, _device_state(d)) for d in others))

    def restore(self) -> None:
        """Set every saved stream back."""
        random.setstate(self.python)
        if self.numpy is not None:
            _numpy_random().set_state(self.numpy)
        torch.set_rng_state(self.cpu)
        for device, state in self.devices:
            getattr(torch, device.type).set_rng_state(state, *([] if device.type == "mps" else [device]))


def _numpy_random() -> Any:
    # not imported: where nobody has loaded NumPy, nobody draws from its stream
    numpy = sys.modules.get("numpy")
    return getattr(numpy, "random", None)


def _device_state(device: torch.device) -> Tensor:
    backend = getattr(torch, device.type)
    state: Tensor = backend.get_rng_state() if device.type == "mps" else backend.get_rng_state(device)
    return state


@dataclass(frozen=True, slots=True)
class Autocast:
    """The autocast settings of one device type at one moment."""

    device: str
    enabled: bool
    dtype: torch.dtype

    @classmethod
    def save(cls, device: str) -> Autocast:
        """Return the settings in force for ``device`` (a device type, such as ``cuda``)."""
        return cls(device, torch.is_autocast_enabled(device), torch.get_autocast_dtype(device))

    def context(self) -> AbstractContextManager[Any]:
        """Return a context in which the saved settings hold."""
        if Autocast.save(self.device) == self:
            return nullcontext()
        return torch.autocast(self.device, dtype=self.dtype, enabled=self.enabled)


class Contents:
    """What some tensors hold at one moment.

    Args:
        tensors: The tensors.
    """

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        # .data, as for buffers
        self._saved = [(tensor.data, tensor.data.clone()) for tensor in tensors]

    def restore(self) -> None:
        """Write back what they held."""
        for live, saved in self._saved:
            live.copy_(saved)


@contextmanager
def requiring_gradients(parameters: Sequence[nn.Parameter], flags: Sequence[bool]) -> Iterator[None]:
    """Run the body with the given ``requires_grad`` flags, then set each one's own flag back."""
    changed = [p for p, flag in zip(parameters, flags, strict=True) if p.requires_grad != flag]
    try:
        for p in changed:
            p.requires_grad = not p.requires_grad
        yield
    finally:
        for p in changed:
            p.requires_grad = not p.requires_grad


@contextmanager
def evaluation_mode(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Run the body with every sub-module in eval mode, then set each one's own flag back."""
    flags = [(part, part.training) for module in modules for part in module.modules()]
    try:
        for part, _ in flags:
            part.training = False
        yield
    finally:
        for part, training in flags:
            part.training = training


@contextmanager
def called_modules(entered: Callable[[nn.Module], None]) -> Iterator[list[nn.Module]]:
    """Collect the outermost modules called in the body; ``entered`` hears of each call before it is made."""
    original, found, depth = nn.Module.__call__, [], 0  # type: ignore[var-annotated]

    @functools.wraps(original)
    def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        nonlocal depth
        if torch.compiler.is_compiling() or depth:
            return original(module, *args, **kwargs)
        entered(module)
        found.append(module)
        depth += 1
        try:
            return original(module, *args, **kwargs)
        finally:
            depth -= 1

    nn.Module.__call__ = call  # type: ignore[method-assign]
    try:
        yield found
    finally:
        nn.Module.__call__ = original  # type: ignore[method-assign]


def modules_in(function: Callable[..., Any]) -> list[nn.Module]:
    """Return the modules a callable is or belongs to: a module, or a method such as ``net.forward``."""
    owner = getattr(function, "__self__", None)
    return [part for part in (function, owner) if isinstance(part, nn.Module)]
