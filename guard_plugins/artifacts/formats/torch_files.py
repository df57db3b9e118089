"""The ``.pt`` files of other code bases, read without ever running code from them."""

from __future__ import annotations

import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from guard_plugins.artifacts.atomic import cannot_write, replacing
from guard_plugins.artifacts.sets.distilled import DistilledSetError
from guard_plugins.files import regular


def read_torch(path: Path) -> Any:
    """Return what a ``.pt`` file holds; only tensors, plain containers and NumPy numbers are let through.

    Raises:
        DistilledSetError: If it is missing, damaged, or holds anything else.
    """
    try:
        with torch.serialization.safe_globals(numpy_numbers()):
            return torch.load(regular(path), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file may raise anything
        raise DistilledSetError(
            f"{path} is not a .pt file that can be read safely",
            seen=refusal(error) if looks_saved(path) else "nothing in it was written by torch.save",
            do="It must hold tensors, lists, dicts and numbers only; nothing else is ever unpickled.",
        ) from error


def looks_saved(path: Path) -> bool:
    """Return whether a file may have been written by ``torch.save``, from its first bytes and a zip's contents alone.

    True for a damaged file, too, for one that cannot be opened, and for any pickle. Files in the tar format of PyTorch
    before 0.2 are not known.
    """
    try:
        with regular(path).open("rb") as file:
            head = file.read(4)
        if head != b"PK\3\4":
            return head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5")  # a pickle of protocol 2 and up
        with zipfile.ZipFile(regular(path)) as archive:
            return any(name.endswith("/data.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError):  # the last: a version zipfile does not know
        return True


def refusal(error: Exception) -> str:
    """Return why ``torch.load`` refused a file, without its advice to read the file unsafely."""
    foreign = re.search(r"GLOBAL (\S+)", str(error))
    if foreign:
        return f"it refers to {foreign[1]}"
    if "TorchScript" in str(error):
        return "it is a TorchScript program"
    if isinstance(error, pickle.UnpicklingError) or "weights_only" in str(error):
        return "it holds what PyTorch's safe reader does not take"
    reason = str(error).strip().splitlines()
    return f"{type(error).__name__}: {reason[0]}" if reason else type(error).__name__


def numpy_numbers() -> list[Any]:
    """Return what NumPy numbers are rebuilt from: scripts save accuracies and epochs as such beside their tensors."""
    scalar = np.float64(0).__reduce__()[0]
    names = [f"numpy.{core}.multiarray.scalar" for core in ("core", "_core")]  # as NumPy 1 and 2 write it
    numbers = ("float16", "float32", "float64", "int8", "int32", "int64", "uint8", "bool")
    kinds = {type(np.dtype(number)) for number in numbers}
    return [np.dtype, *kinds, *((scalar, name) for name in names)]


def write_torch(path: Path, value: Any) -> None:
    """Write a ``.pt`` file atomically.

    Raises:
        ArtifactError: If it cannot be written.
    """
    with replacing(path) as part:
        try:
            torch.save(value, part)
        except RuntimeError as error:  # what its archive writer makes of a failed write
            raise cannot_write(path, error) from error
