"""Finds the state dict inside what a training script saved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
OWN, AVERAGING, UNKNOWN = range(3)
MOST_CHANNELS: Final = 4
"""Numbers of a normalisation at most."""
SMALLEST_DEVIATION: Final = 0.05
"""Of pixels in [0, 1]: those of the data sets in use lie above 0.1."""
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


def state_dict_in(content: Any, path: Path, *, beside: bool = True) -> StateDict:
    """Return the state dict that a file's content is or contains.

    Args:
        content: What the file holds.
        path: The file, for messages.
        beside: Whether a normalisation that stands beside it is taken as well.

    Raises:
        ConfigError: If there is no state dict, or several and none is plainly the model's.
    """
    found = dict(_state_dicts(content))
    if not found:
        raise _no_state_dict(content, path)
    largest = max(map(len, found.values()))
    paths = sorted((keys for keys, inside in found.items() if 2 * len(inside) >= largest), key=_rank)
    if len(paths) > 1 and _rank(paths[0])[0] == _rank(paths[1])[0] == UNKNOWN:
        raise ConfigError(
            f"{path} holds several state dicts", seen=f"under: {', '.join(map('.'.join, paths[:8]))}",
            do="Save only the one you mean: torch.save(model.state_dict(), FILE).",
        )  # fmt: skip
    outer, others = found[paths[0]], [repr(".".join(keys)) for keys in paths[1:]]
    notes = [f"took the weights under {'.'.join(paths[0])!r}"] if paths[0] else []
    notes += [f"did not take {', '.join(others[:5])}"] if others else []
    left_out = [str(name) for name, value in outer.items() if not isinstance(value, Tensor)]
    if left_out:
        notes.append(f"left out {', '.join(left_out[:5])}")
    tensors = {str(name): _plain(value, str(name), path) for name, value in outer.items() if isinstance(value, Tensor)}
    constants = _beside(content, paths[0]) if beside and not {"mean", "std"} & tensors.keys() else {}
    return StateDict(tensors | constants, tuple(notes))


def _beside(content: Any, keys: Sequence[str]) -> dict[str, Tensor]:
    """Return the normalisation beside the weights: rows called mean and std, or a dict of these called normalize.

    Where several differ, none is plainly the network's, and none is taken.
    """
    found: list[tuple[Tensor, Tensor]] = []
    holder = content
    for key in (*keys, None):
        inner = [value for name, value in holder.items() if isinstance(value, Mapping) and "norm" in name.lower()]
        found += [pair for place in (holder, *inner) if (pair := _pair(place)) is not None]
        holder = holder[key] if key is not None else holder
    same = all(torch.equal(mean, found[0][0]) and torch.equal(std, found[0][1]) for mean, std in found[1:])
    return {"mean": found[0][0], "std": found[0][1]} if found and same else {}


def _pair(place: Mapping[str, Any]) -> tuple[Tensor, Tensor] | None:
    """Return mean and deviation of pixels, one number a channel; results of several seeds deviate by less."""
    mean, std = (_row(place.get(name)) for name in ("mean", "std"))
    if mean is None or std is None or len(mean) != len(std) or bool((mean < 0).any()):
        return None
    return (mean, std) if float(std.min()) >= SMALLEST_DEVIATION * (255 if float(mean.max()) > 1 else 1) else None


def _row(value: Any) -> Tensor | None:
    """Return a row of numbers, or None."""
    if not isinstance(value, list | tuple | Tensor):
        return None
    try:
        row = torch.as_tensor(value).detach().double()
    except (TypeError, ValueError, RuntimeError):
        return None
    return row.flatten() if row.dim() and 1 <= row.numel() <= MOST_CHANNELS and bool(row.isfinite().all()) else None


def _state_dicts(content: Any, keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Yield every state dict in nested mappings with the keys that lead to it; none inside of another."""
    if not isinstance(content, Mapping) or len(keys) > DEEPEST or not all(isinstance(name, str) for name in content):
        return
    inside = [pair for name, value in content.items() for pair in _state_dicts(value, (*keys, name))]
    if inside:
        yield from inside
    elif any(isinstance(value, Tensor) for value in content.values()):
        yield keys, content


def _rank(keys: Sequence[str]) -> tuple[int, int, int]:
    """Order the places of state dicts: the model's own, then averaged ones, then those under names nobody knows."""
    own = min((PLAIN.index(key) for key in keys if key in PLAIN), default=len(PLAIN))
    if any(key in AVERAGED for key in keys):
        return AVERAGING, own, len(keys)
    return (OWN if own < len(PLAIN) or not keys else UNKNOWN), own, len(keys)


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
    if odd or (tensor.is_floating_point() and tensor.element_size() == 1):  # 8-bit floats need a scale from elsewhere
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
