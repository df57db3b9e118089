"""Nested state (optimisers, schedulers, models) on disk without pickle: tensors in safetensors, the rest as JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from guard_plugins.artifacts.tensors import write_tensors
from guard_plugins.errors import DamagedError
from guard_plugins.files import regular

KEY: Final = "tree"
DIGEST: Final = "digest"
"""Key of the hash over the tree and its tensors."""


def save_tree(path: Path, tree: Any) -> None:
    """Write nested dicts, lists, tensors, numbers, strings, booleans and None.

    Args:
        path: The file.
        tree: Dictionaries may have string or integer keys; tuples come back as lists.

    Raises:
        ArtifactError: If the file cannot be written.
        TypeError: If the tree holds anything else.
    """
    tensors: dict[str, Tensor] = {}
    skeleton = json.dumps(_packed(tree, tensors))
    write_tensors(path, tensors, {KEY: skeleton, DIGEST: _digest(skeleton, tensors)})


def load_tree(path: Path) -> Any:
    """Return what :func:`save_tree` wrote.

    Raises:
        DamagedError: If the file is missing or damaged, be it by one bit.
    """
    try:
        with safe_open(regular(path), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            metadata = file.metadata() or {}
        if metadata.get(DIGEST) != _digest(metadata[KEY], tensors):
            raise ValueError("its content does not match its hash")
        return _unpacked(json.loads(metadata[KEY]), tensors)
    except _UNREADABLE as error:
        raise _damaged(path, error) from error


def load_outline(path: Path) -> Any:
    """Return what :func:`save_tree` wrote with None in place of its tensors, which are not read.

    Raises:
        DamagedError: If the file is missing, or its outline damaged.
    """
    try:
        with safe_open(regular(path), framework="pt") as file:
            return _unpacked(json.loads((file.metadata() or {})[KEY]), dict.fromkeys(file.keys()))
    except _UNREADABLE as error:
        raise _damaged(path, error) from error


# What damaged or hostile files raise.
_UNREADABLE: Final = (
    OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError, AttributeError, RecursionError,
)  # fmt: skip


def _damaged(path: Path, error: Exception) -> DamagedError:
    return DamagedError(
        f"{path} is damaged or no saved state", seen=f"{type(error).__name__}: {error}",
        do="Delete it: the work since the last finished stage is then done again.",
    )  # fmt: skip


def _digest(skeleton: str, tensors: Mapping[str, Tensor]) -> str:
    state = hashlib.blake2b(skeleton.encode(), digest_size=16)
    for name, tensor in sorted(tensors.items()):
        state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        state.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    return state.hexdigest()


def _packed(tree: Any, tensors: dict[str, Tensor]) -> Any:
    """Return the tree as JSON values in which every container and tensor says what it is."""
    if isinstance(tree, Tensor):
        name = str(len(tensors))
        # Clones, since safetensors refuses tensors that share memory.
        tensors[name] = tree.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {"tensor": name}
    if isinstance(tree, dict):
        return {"dict": [[key, _packed(value, tensors)] for key, value in tree.items() if _is_key(key)]}
    if isinstance(tree, (list, tuple)):
        return {"list": [_packed(value, tensors) for value in tree]}
    if tree is None or isinstance(tree, (bool, int, float, str)):
        return tree
    raise TypeError(f"a saved state cannot hold {type(tree).__name__}")


def _is_key(key: Any) -> bool:
    if not isinstance(key, (str, int)):
        raise TypeError(f"a saved state cannot have keys of type {type(key).__name__}")
    return True


def _unpacked(tree: Any, tensors: Mapping[str, Tensor | None]) -> Any:
    if not isinstance(tree, dict):
        return tree
    ((kind, content),) = tree.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _unpacked(value, tensors) for key, value in content}
    if kind == "list":
        return [_unpacked(value, tensors) for value in content]
    raise ValueError(f"unknown kind {kind!r}")
