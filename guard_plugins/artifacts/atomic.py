"""Files that are either whole or not there: written beside, flushed to disk, renamed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

from guard_plugins.errors import ArtifactError

PART = ".part"
"""Suffix of a file that is being written."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; on a clean exit it becomes ``path``, otherwise it is removed.

    Raises:
        ArtifactError: If the disk is full or the folder cannot be written.
    """
    part = path.with_name(path.name + PART)
    with writing(path):
        try:
            yield part
            with part.open("rb") as file:
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a body's failure to write into an error that names ``path``.

    Raises:
        ArtifactError: If the disk is full or the folder cannot be written.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise cannot_write(path, error) from error


def made(folder: Path) -> Path:
    """Return a folder that exists, made with its parents where it did not.

    Raises:
        ArtifactError: If it cannot be made.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically (UTF-8).

    Raises:
        ArtifactError: If it cannot be written.
    """
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def cannot_write(path: Path, error: Exception) -> ArtifactError:
    """Return the error for a file that cannot be written, with the remedy that fits its cause."""
    return ArtifactError(
        f"Cannot write {path}", seen=getattr(error, "strerror", None) or str(error),
        do="Free some disk space, or choose another folder with --output; everything finished so far is kept.",
    )  # fmt: skip
