"""Finds the state dict inside what a training script saved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from guard_plugins.errors import ConfigError

PLAIN: Final = ("state_dict", "model_state_dict", "model", "net", "network", "params", "weights", "model_state")
"""Keys under which training scripts put the weights, most telling first."""
AVERAGED: Final = ("model_ema", "state_dict_ema", "ema_state_dict", "params_ema", "ema", "swa_model", "model_swa")
"""Keys of averaged weights; they are taken where there are no plain ones."""
DEEPEST: Final = 4
"""Containers within containers that are looked into."""


@dataclass(frozen=True)
class StateDict:
    """Weights by name.

    Attributes:
        tensors: The tensors, as they are named in the file.
        notes: What was unwrapped and left out, one phrase each.
    """

    tensors: Mapping[str, Tensor]
    notes: tuple[str, ...] = ()


def state_dict_in(content: Any, path: Path) -> StateDict:
    """Return the state dict that a file's content is or contains.

    Args:
        content: What the file holds.
        path: The file, for messages.

    Raises:
        ConfigError: If there is no state dict, or several and none is plainly the model's.
    """
    keys: list[str] = []
    notes: list[str] = []
    outer = content
    while not _is_state_dict(outer) and len(keys) < DEEPEST:
        key, others = _inner_key(outer, path)
        keys.append(key)
        notes += [f"did not take {', '.join(map(repr, others))}"] if others else []
        outer = outer[key]
    if not _is_state_dict(outer):
        raise _no_state_dict(content, path)
    if keys:
        notes.insert(0, f"took the weights under {'.'.join(keys)!r}")
    left_out = [str(name) for name, value in outer.items() if not isinstance(value, Tensor)]
    if left_out:
        notes.append(f"left out {', '.join(left_out[:5])}")
    tensors = {str(name): _plain(value, str(name), path) for name, value in outer.items() if isinstance(value, Tensor)}
    return StateDict(tensors, tuple(notes))


def _is_state_dict(value: Any) -> bool:
    """Whether this is a mapping of names to tensors, beside which numbers and texts may stand but no containers."""
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        return False
    tensors = sum(isinstance(one, Tensor) for one in value.values())
    return tensors > 0 and not any(_holds_weights(one) for one in value.values())


def _holds_weights(value: Any) -> bool:
    return isinstance(value, Mapping) and any(isinstance(one, (Tensor, Mapping)) for one in value.values())


def _inner_key(content: Any, path: Path) -> tuple[str, list[str]]:
    """Return the key the weights are under, and other keys that hold weights too."""
    if not isinstance(content, Mapping):
        raise _no_state_dict(content, path)
    inside = [name for name, value in content.items() if isinstance(name, str) and _holds_weights(value)]
    known: list[str] = [name for name in (*PLAIN, *AVERAGED) if name in inside]
    direct = [name for name in inside if _is_state_dict(content[name])]
    if known:
        return known[0], known[1:]
    if len(direct) == 1:
        return direct[0], []
    if len(direct) > 1:
        raise ConfigError(
            f"{path} holds several state dicts", seen=f"under: {', '.join(direct[:8])}",
            do="Save the one that is meant alone: torch.save(model.state_dict(), FILE).",
        )  # fmt: skip
    raise _no_state_dict(content, path)


def _no_state_dict(content: Any, path: Path) -> ConfigError:
    held = ", ".join(map(str, list(content)[:5])) if isinstance(content, Mapping) else type(content).__name__
    return ConfigError(
        f"{path} holds no state dict", seen=f"it holds: {held or 'nothing'}",
        do=f"Save model.state_dict(), on its own or under one of: {', '.join(PLAIN)}.",
    )  # fmt: skip


def _plain(tensor: Tensor, name: str, path: Path) -> Tensor:
    """Return a dense tensor of ordinary numbers, detached.

    Raises:
        ConfigError: If it is of another kind (sparse, quantised, without data), or holds NaN or infinity.
    """
    odd = tensor.is_quantized or tensor.layout is not torch.strided or tensor.is_meta or tensor.is_complex()
    if odd:
        raise ConfigError(
            f"The tensor {name} in {path} is no ordinary tensor",
            seen=f"{tensor.dtype}, {tensor.layout}, on {tensor.device}", do="Save the weights as dense floating point.",
        )  # fmt: skip
    if not bool(torch.isfinite(tensor).all()):
        raise ConfigError(
            f"The tensor {name} in {path} holds numbers that are not finite",
            do="The training went wrong before it was saved; give an earlier checkpoint.",
        )
    return tensor.detach()
