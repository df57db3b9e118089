"""One process at a time in a folder."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from guard_plugins.artifacts.atomic import PART, cannot_write
from guard_plugins.errors import ConfigError

LOCK: Final = ".lock"
"""Name of the file that is locked."""

WRITTEN: Final = frozenset({".json", ".jsonl", ".yaml", ".md", ".html", ".png", ".jpg", ".safetensors", ".pt"})
"""Suffixes of the files that are written in a run's folder; only of these are half-written ones removed."""


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of ``folder`` while the context is open, and remove half-written files first.

    Nothing outside of the folder is touched: a lock file that is a link is refused, and so is a folder within it that
    is a link to elsewhere. The folder itself may lie behind a link.

    Raises:
        ConfigError: If another process is at work in it, or something in it is a link to another place.
        ArtifactError: If the folder cannot be written.
    """
    path = folder / LOCK
    _require_own_file(path)
    lock = FileLock(path, blocking=False)  # opens without following links, and never truncates
    try:
        held = lock.acquire()
    except Timeout:
        raise ConfigError(f"Another process is at work in {folder}", do="Wait for it, or stop it first.") from None
    except OSError as error:
        raise cannot_write(folder, error) from error
    with held:
        mine = path.lstat()
        try:
            _remove_parts(folder)
            yield
        finally:
            # While the lock is held, and only if the file is still ours: filelock gives a lock on a file that was
            # removed to nobody, so no two processes can hold one each.
            with contextlib.suppress(OSError):
                if os.path.samestat(path.lstat(), mine):
                    path.unlink()


def _require_own_file(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            raise ConfigError(
                f"{path} is not a lock file of this project", seen="a link, or no regular file",
                do="Nothing was changed. Remove it if no other process is at work in the folder.",
            )  # fmt: skip


def _remove_parts(folder: Path) -> None:
    """Remove the half-written files of killed processes.

    Raises:
        ConfigError: If a folder within is a link to another place.
    """
    inside = folder.resolve()
    for root, folders, files in os.walk(folder):
        here = Path(root)
        for name in folders:
            if (here / name).is_symlink() and not (here / name).resolve().is_relative_to(inside):
                raise ConfigError(
                    f"{here / name} is a link to a folder elsewhere, in which nothing may be changed",
                    seen=f"it points to {(here / name).resolve()}",
                    do="Put a real folder in its place. The whole folder of a run may lie behind a link.",
                )
        for name in files:
            part = here / name
            if part.suffix == PART and Path(part.stem).suffix in WRITTEN:
                part.unlink(missing_ok=True)
