"""Writing safetensors: whole files, equal bytes for equal content."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors import numpy as numpy_files

from guard_plugins.artifacts.atomic import replacing

LENGTH: Final = 8
"""Bytes at the start of a file that say how long its header is."""


def write_tensors(path: Path, tensors: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors, or NumPy arrays, to a safetensors file.

    Args:
        path: The file.
        tensors: Contiguous tensors by name, all of PyTorch or all of NumPy.
        metadata: Texts to store with them.

    Raises:
        ArtifactError: If the file cannot be written.
    """
    with replacing(path) as part:
        if any(not isinstance(value, np.ndarray) for value in tensors.values()) or not tensors:
            from safetensors import torch as torch_files  # imported here: reports need arrays, and no PyTorch

            torch_files.save_file(dict(tensors), part, metadata=dict(metadata or {}))
        else:
            numpy_files.save_file(dict(tensors), part, metadata=dict(metadata or {}))
        _sort_metadata(part)


def _sort_metadata(path: Path) -> None:
    """Sort the metadata in a file's header in place; safetensors writes it in an order that changes from run to run."""
    with os.fdopen(os.open(path, os.O_RDWR | os.O_NOFOLLOW), "r+b") as file:
        length = int.from_bytes(file.read(LENGTH), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        file.seek(LENGTH)
        file.write(text.ljust(length))
