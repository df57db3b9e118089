"""The process-wide settings of PyTorch and NumPy that a plugin may change for everybody."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple


class Setting(NamedTuple):
    """One thing of the process that may change.

    Attributes:
        name: What messages call it; empty for what is put back without a word.
        read: Returns its value, which can be compared.
        write: Sets it.
    """

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], Any]


def torch_settings() -> Iterator[Setting]:
    """Yield the settings of PyTorch."""
    import torch

    yield Setting("the default dtype", torch.get_default_dtype, torch.set_default_dtype)
    yield Setting(
        "the default device",
        torch.get_default_device,
        lambda device: torch.set_default_device(None if device.type == "cpu" else device),
    )
    yield Setting("whether gradients are enabled", torch.is_grad_enabled, torch.set_grad_enabled)
    yield Setting("the number of threads", torch.get_num_threads, torch.set_num_threads)
    yield Setting(
        "deterministic algorithms",
        lambda: (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()),
        lambda both: torch.use_deterministic_algorithms(both[0], warn_only=both[1]),
    )
    for name in ("benchmark", "deterministic"):
        yield Setting(f"cudnn.{name}", *_attribute(torch.backends.cudnn, name))
    yield Setting(
        "the precision of matrix products", torch.get_float32_matmul_precision, torch.set_float32_matmul_precision
    )
    yield Setting("anomaly detection", torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly)
    yield Setting(
        "autocast on the CPU",
        lambda: torch.is_autocast_enabled("cpu"),
        lambda on: torch.set_autocast_enabled("cpu", on),
    )
    yield Setting(
        "PyTorch's global random stream",
        lambda: torch.get_rng_state().numpy().tobytes(),
        lambda state: torch.set_rng_state(torch.frombuffer(bytearray(state), dtype=torch.uint8)),
    )


def torch_functions() -> list[Functions]:
    """Return the classes and modules of PyTorch whose functions everybody calls."""
    import torch

    owners = (torch.Tensor, torch.nn.Module, torch.optim.Optimizer, torch, torch.autograd, torch.nn.functional)
    return [Functions(owner, Path(torch.__file__).parent) for owner in owners]


class Functions:
    """The functions of a class or module, as they are when this object is made.

    Args:
        owner: The class or module.
        root: Its project's folder. What code from there replaces is no change: parts of PyTorch that are imported later
            replace functions of others.
    """

    def __init__(self, owner: Any, root: Path) -> None:
        self._owner, self._root, self._before = owner, root, dict(vars(owner))

    def restore(self) -> list[str]:
        """Put back what other code replaced, and return the names of it."""
        now = vars(self._owner)
        changed = [name for name, value in self._before.items() if now.get(name) is not value]
        changed = [n for n in changed if inspect.isroutine(self._before[n]) and not _is_within(now.get(n), self._root)]
        for name in changed:
            setattr(self._owner, name, self._before[name])
        return [f"{self._owner.__name__}.{name}" for name in changed]


def numpy_settings() -> Iterator[Setting]:
    """Yield the settings of NumPy."""
    import numpy as np

    yield Setting("NumPy's error handling", np.geterr, lambda value: np.seterr(**value))
    yield Setting("NumPy's global random stream", _numpy_state, _set_numpy_state)


def _numpy_state() -> tuple[Any, ...]:
    import numpy as np

    state: Any = np.random.get_state()
    name, keys, *rest = state
    return (name, keys.tobytes(), *rest)


def _set_numpy_state(state: tuple[Any, ...]) -> None:
    import numpy as np

    name, keys, *rest = state
    np.random.set_state((name, np.frombuffer(keys, dtype=np.uint32), *rest))


def _attribute(owner: Any, name: str) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    return lambda: getattr(owner, name), lambda value: setattr(owner, name, value)


def _is_within(function: Any, root: Path) -> bool:
    code = getattr(function, "__code__", None)
    return code is not None and root in Path(code.co_filename).parents
