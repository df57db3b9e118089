"""Large tensors on disk: written piece by piece, and used from the file, so that they are never held in memory."""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save
from torch import Tensor

from guard_plugins.artifacts.atomic import made, replacing, writing
from guard_plugins.artifacts.tensors import LENGTH

HELD: Final = 64 * 2**20
"""Bytes up to which joined tensors are held in memory; more are mapped from a file."""
PIECE: Final = 8 * 2**20
"""Bytes that are worked on at a time."""


def pieces(tensor: Tensor) -> Sequence[Tensor]:
    """Return a tensor in parts along its first dimension, each of about 8 MiB and at least one row."""
    if not len(tensor):
        return []
    row = tensor[:1].numel() * tensor.element_size()
    parts: Sequence[Tensor] = tensor.split(max(1, PIECE // max(row, 1)))
    return parts


def write_streamed(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file without a second copy of its tensors; its bytes are those of ``write_tensors``.

    Args:
        path: The file.
        tensors: Tensors by name, on any device.

    Raises:
        ArtifactError: If the file cannot be written.
    """
    # The format's own writer says in which order the tensors come and how their types are called.
    sample = save({name: tensor.flatten()[:0].contiguous() for name, tensor in tensors.items()}, metadata={})
    known = json.loads(sample[LENGTH : LENGTH + int.from_bytes(sample[:LENGTH], "little")])
    header: dict[str, Any] = {"__metadata__": {}}
    position = 0
    for name in (name for name in known if name != "__metadata__"):
        tensor = tensors[name]
        end = position + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": known[name]["dtype"], "shape": list(tensor.shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text = text.ljust(-(-len(text) // LENGTH) * LENGTH)
    with replacing(path) as part, part.open("r+b") as file:
        file.write(len(text).to_bytes(LENGTH, "little") + text)
        for name in list(header)[1:]:
            for piece in pieces(tensors[name].reshape(1) if tensors[name].dim() == 0 else tensors[name]):
                file.write(piece.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)


def joined(parts: Iterable[Tensor], *, rows: int, folder: Path | None) -> Tensor:
    """Return tensors one after the other, as ``torch.cat`` does; in a file without a name where they are large.

    The file has no name, so it is gone with the process. Its pages are the system's, which writes them to disk where
    memory is short.

    Args:
        parts: At least one tensor on the CPU, taken one by one; all of one type, equal but for the first dimension.
        rows: Sum of their first dimensions.
        folder: Where the file goes; None holds everything in memory.

    Raises:
        ArtifactError: If the disk has no room.
    """
    iterator = iter(parts)
    first = next(iterator)
    size = rows * math.prod(first.shape[1:]) * first.element_size()
    if folder is not None and size > HELD:
        whole = _mapped(made(folder), first, rows, size)
    else:
        whole = torch.empty((rows, *first.shape[1:]), dtype=first.dtype)
    position = 0
    for part in itertools.chain([first], iterator):
        whole[position : position + len(part)] = part
        position += len(part)
    return whole


def _mapped(folder: Path, like: Tensor, rows: int, size: int) -> Tensor:
    path = folder / "joined.safetensors.part"  # a name that is swept up, should the process be killed here
    with writing(path):
        path.unlink(missing_ok=True)
        with path.open("xb") as file:
            if hasattr(os, "posix_fallocate"):  # a full disk is an error here, not a signal in the middle
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
    flat = torch.from_file(str(path), shared=True, size=size // like.element_size(), dtype=like.dtype)
    path.unlink()
    return flat.view(rows, *like.shape[1:])
