"""Files that are either whole or not there: written beside, flushed to disk, renamed.

No file is opened for writing through a symbolic link, so nothing outside of the folder is ever changed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from safetensors import SafetensorError

from guard_plugins.errors import ArtifactError

PART = ".part"
"""Suffix of a file that is being written."""
_IN_THE_WAY: Final = frozenset({errno.EISDIR, errno.ELOOP, errno.ENXIO, errno.EMLINK, errno.EEXIST})
"""Errors that mean a folder, a link or a pipe where a file is to be written."""
_FORBIDDEN: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
"""Errors that mean a folder that may not be written, or a disk that is mounted for reading only."""
_NO_FOLDER: Final = frozenset({errno.ENOENT, errno.ENOTDIR})
"""Errors that mean a folder that is not there (any more)."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; on a clean exit it becomes ``path``, otherwise it is removed.

    The file gets the mode that the process's umask gives, whatever mode its writer chose. A symbolic link at ``path``
    is replaced, and its target stays as it is.

    Raises:
        ArtifactError: If the disk is full or the folder cannot be written.
    """
    part = path.with_name(path.name + PART)
    with writing(path):
        mode = _create(part)
        try:
            yield part
            _finish(part, mode)
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
    """Write a text file atomically (UTF-8; what UTF-8 cannot hold, such as the bytes of a strange path, is escaped).

    Raises:
        ArtifactError: If it cannot be written.
    """
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8", errors="backslashreplace")


def append_text(path: Path, text: str) -> None:
    """Append to a text file (UTF-8), which is made where there is none.

    Raises:
        ArtifactError: If it cannot be written, is no regular file, or is a link (symbolic or hard).
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    with writing(path), os.fdopen(os.open(path, flags, 0o666), "a", encoding="utf-8") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            raise OSError(errno.EMLINK, "it is no regular file, or a hard link")
        file.write(text)


def cannot_write(path: Path, error: Exception) -> ArtifactError:
    """Return the error for a file that cannot be written, with the remedy that fits its cause."""
    return ArtifactError(
        f"Cannot write {path}", seen=getattr(error, "strerror", None) or str(error),
        do=f"{_remedy(_number(error))}, or choose another folder with --output; everything finished so far is kept.",
    )  # fmt: skip


def _number(error: Exception) -> int | None:
    """Return the system's number of an error, which safetensors has in its text only."""
    told = re.search(r"\(os error (\d+)\)", str(error))
    return int(told[1]) if told else getattr(error, "errno", None)


def _remedy(number: int | None) -> str:
    if number in _IN_THE_WAY:
        return "Remove what is in its place"
    if number in _FORBIDDEN:
        return "Make sure that you may write there"
    if number in _NO_FOLDER:
        return "Look why its folder is gone"
    return "Give a shorter name" if number == errno.ENAMETOOLONG else "Free some disk space"


def _create(part: Path) -> int:
    """Create an empty file, in place of one that a killed process left, and return its mode."""
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
    try:
        return stat.S_IMODE(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)


def _finish(part: Path, mode: int) -> None:
    """Give a written file its mode and flush it to disk."""
    descriptor = os.open(part, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        if stat.S_IMODE(os.fstat(descriptor).st_mode) != mode:
            os.fchmod(descriptor, mode)  # safetensors writes its files with mode 0600
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
