"""Reading JSON back from files that may be damaged or foreign: any content gives values or one clear error."""

from __future__ import annotations

import json
import math
import os
import stat
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError

from guard_plugins.errors import DamagedError

LARGEST: Final = 256 * 2**20
"""Bytes of the largest JSON file that is read; the record of a million files is smaller."""

M = TypeVar("M", bound=BaseModel)


def read_json(path: Path, *, do: str) -> Any:
    """Return the values in a JSON file.

    Args:
        path: The file.
        do: What the reader of the error can do about a damaged file.

    Raises:
        DamagedError: If it cannot be read, is not JSON, or has duplicate keys or numbers that are not finite.
    """
    return _parsed(path, _text(path, do), do)


def read_model(path: Path, model: type[M], *, do: str) -> M:
    """Return the values in a JSON file as a model, whose types must be exact: ``true`` or ``"1"`` is no number.

    Args:
        path: The file.
        model: What it must hold.
        do: What the reader of the error can do about a damaged file.

    Raises:
        DamagedError: If it cannot be read, or holds anything else.
    """
    text = _text(path, do)
    _parsed(path, text, do)
    try:
        return model.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise damaged(path, first_problem(error), do) from error


def first_problem(error: ValidationError) -> str:
    """Return the first thing that a model found wrong, in a line."""
    first, *others = error.errors(include_url=False, include_context=False)
    where = ".".join(map(str, first["loc"]))
    value = repr(first["input"])
    seen = f"{where}: {first['msg']}, got {value if len(value) <= 60 else value[:57] + '...'}"
    return seen + (f"; and {len(others)} more" if others else "")


def damaged(path: Path, seen: str, do: str) -> DamagedError:
    """Return the error for a file that cannot be used.

    Args:
        path: The file.
        seen: What is wrong with it.
        do: What the reader can do.
    """
    return DamagedError(f"{path} is damaged, or is not what its name says", seen=seen, do=do)


def _text(path: Path, do: str) -> str:
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_size > LARGEST:
                raise OSError("it is no regular file, or larger than any such file")
            return file.read(LARGEST).decode()
    except (OSError, ValueError) as error:
        raise damaged(path, getattr(error, "strerror", None) or str(error), do) from error


def _parsed(path: Path, text: str, do: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise damaged(path, str(error), do) from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} is there twice")
    return found


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits[:40]} is too large for a number")
    return number
