"""Reads the weights of other people's networks, without ever running code from their files."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from guard_plugins.artifacts.distilled import METADATA, TENSORS
from guard_plugins.artifacts.formats.torch_files import looks_saved, refusal
from guard_plugins.artifacts.teacher import TeacherCard, read_card
from guard_plugins.errors import ConfigError
from guard_plugins.networks.normalised import Normalised

_INSIDE: Final = ("state_dict", "model_state_dict", "model", "net", "network")
"""Keys under which training scripts put the weights inside a larger dictionary."""
_WRAPPERS: Final = ("module.", "_orig_mod.")
"""Prefixes that DataParallel and torch.compile put before every name."""

_ALONE: Final = "Save the state dict alone where the file comes from: torch.save(model.state_dict(), FILE)."


def card_of(path: Path) -> TeacherCard | None:
    """Return what a teacher this project wrote says of itself, or None for any other file.

    Raises:
        ConfigError: If there is no such file, or it is plainly no checkpoint.
        ArtifactError: If it calls itself a teacher but is damaged.
    """
    if not path.is_file():
        raise ConfigError(f"There is no checkpoint {path}", do="Check the path; give a .safetensors, .pt or .pth file.")
    if path.name == TENSORS and (path.parent / METADATA).exists():
        run = path.parent.parent if path.parent.name == "distilled" else path.parent
        raise ConfigError(f"{path} holds distilled images, not weights", do=f"Give it as --distilled {run}.")
    if path.suffix != ".safetensors":
        _require_saved(path)
        return None
    try:
        with safe_open(path, framework="pt") as file:
            ours = "teacher" in (file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"{path} is not a readable safetensors file", seen=str(error)) from error
    return read_card(path) if ours else None


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, or of a state dict that ``torch.save`` wrote.

    Raises:
        ConfigError: If the file is damaged, or holds more than weights.
    """
    if path.suffix == ".safetensors":
        return load_file(path)
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ConfigError(
            f"{path} holds more than weights, and reading it could run code from it", seen=refusal(error), do=_ALONE
        ) from error
    except Exception as error:  # a damaged file may raise anything
        raise ConfigError(f"{path} is not a checkpoint PyTorch can read", seen=refusal(error), do=_ALONE) from error
    return _tensors(path, content)


def fill(model: Normalised, weights: Mapping[str, Tensor], path: Path) -> None:
    """Load weights into a model: named as the whole model's, or as its inner network's.

    Raises:
        ConfigError: If names or shapes do not fit.
    """
    target: torch.nn.Module = model if "mean" in weights and "std" in weights else model.network
    try:
        target.load_state_dict(dict(weights))
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:4]]
        raise ConfigError(
            f"The weights in {path} do not fit the network (--arch, --activation)",
            seen=" ".join(line if len(line) < 200 else line[:200] + "..." for line in lines),
            do="Give the architecture they were trained with, and the data set with its number of classes.",
        ) from error


def _require_saved(path: Path) -> None:
    if not looks_saved(path):
        raise ConfigError(
            f"{path} is no checkpoint", seen="it is neither a safetensors file nor one that torch.save wrote",
            do="Give a run, its teacher.safetensors, any .safetensors, or a state dict (.pt, .pth).",
        )  # fmt: skip


def _tensors(path: Path, content: Any) -> dict[str, Tensor]:
    for key in _INSIDE:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        held = ", ".join(map(str, list(content)[:5])) if isinstance(content, Mapping) else type(content).__name__
        raise ConfigError(
            f"{path} holds no state dict", seen=f"it holds: {held or 'nothing'}",
            do=f"Save model.state_dict(), on its own or under one of: {', '.join(_INSIDE)}.",
        )  # fmt: skip
    return {_unwrapped(str(name), _WRAPPERS): value for name, value in content.items()}


def _unwrapped(name: str, prefixes: Sequence[str]) -> str:
    while name.startswith(tuple(prefixes)):
        name = next(name.removeprefix(prefix) for prefix in prefixes if name.startswith(prefix))
    return name
