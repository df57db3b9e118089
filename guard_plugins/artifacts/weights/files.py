"""Opens files of weights without ever running code from them."""

from __future__ import annotations

import argparse
import pickle
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from guard_plugins.artifacts.formats.torch_files import looks_saved, numpy_numbers, refusal
from guard_plugins.artifacts.sets.distilled import METADATA, TENSORS
from guard_plugins.artifacts.teacher import TeacherCard, read_card
from guard_plugins.errors import ConfigError
from guard_plugins.files import regular

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
        raise ConfigError(
            f"{path} holds distilled images, not weights", do=f"guard-eval takes it as --distilled {run}."
        )
    if path.suffix != ".safetensors":
        _require_saved(path)
        return None
    try:
        with safe_open(regular(path), framework="pt") as file:
            ours = "teacher" in (file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"{path} is not a readable safetensors file", seen=str(error)) from error
    return read_card(path) if ours else None


def read_content(path: Path) -> Any:
    """Return the content of a safetensors file, or of a file that ``torch.save`` wrote.

    Beside tensors and plain containers, only an ``argparse.Namespace`` and NumPy numbers are built; both are inert.

    Raises:
        ConfigError: If the file is damaged, or holds anything else.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(regular(path))
        with torch.serialization.safe_globals([argparse.Namespace, *numpy_numbers()]):
            return torch.load(regular(path), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ConfigError(
            f"{path} holds more than weights, and reading it could run code from it", seen=refusal(error), do=_ALONE
        ) from error
    except Exception as error:  # a damaged file may raise anything
        raise ConfigError(f"{path} is not a checkpoint PyTorch can read", seen=refusal(error), do=_ALONE) from error


def _require_saved(path: Path) -> None:
    if path.name.endswith(".index.json"):
        raise ConfigError(
            f"{path} lists the files over which weights are spread, and is no checkpoint itself",
            do="Join them: safetensors.torch.save_file({k: v for f in FILES for k, v in load_file(f).items()}, FILE).",
        )
    if not looks_saved(path):
        raise ConfigError(
            f"{path} is no checkpoint", seen="it is neither a safetensors file nor one that torch.save wrote",
            do="Give a run, its teacher.safetensors, any .safetensors, or a state dict (.pt, .pth).",
        )  # fmt: skip
