"""One process at a time in a folder."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from guard_plugins.artifacts.atomic import PART, cannot_write
from guard_plugins.errors import ConfigError


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of ``folder`` while the context is open, and sweep up half-written files.

    Raises:
        ConfigError: If another process is at work in it.
        ArtifactError: If the folder cannot be written.
    """
    try:
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise cannot_write(folder, error) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"Another process is at work in {folder}", do="Wait for it, or stop it first.") from None
        for part in folder.rglob(f"*{PART}"):
            part.unlink()
        yield
        (folder / ".lock").unlink(missing_ok=True)
