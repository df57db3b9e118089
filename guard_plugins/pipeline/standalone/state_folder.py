"""The state of an evaluation outside of a run, kept in a folder until the result is safe."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from guard_plugins.artifacts.atomic import made
from guard_plugins.artifacts.lock import LOCK, locked
from guard_plugins.errors import ConfigError
from guard_plugins.runtime.keeping.checkpoints import read_state
from guard_plugins.runtime.signals import StoppedError, StopRequest

STATES: Final = "*.safetensors"
"""Files of a state, in its folder."""


@contextlib.contextmanager
def kept(folder: Path | None) -> Iterator[StopRequest]:
    """Open a folder for the state of an evaluation; while it is open, signals stop at safe points.

    The folder stays if there is a state in it (see :func:`discard`). Without a folder, nothing is kept and
    signals end the process as usual.

    Raises:
        StoppedError: If a signal asked to stop.
        ConfigError: If another process is at work in the folder, or it is a link.
        ArtifactError: If the folder cannot be written.
    """
    if folder is None:
        yield StopRequest()
        return
    if folder.is_symlink():
        raise ConfigError(
            f"{folder} is a link, in whose place the state of the evaluation would be kept (--output)",
            do="Remove the link, or name another --output; nothing was changed.",
        )
    with locked(made(folder)), StopRequest().listening(aloud=True) as stop:
        try:
            yield stop
        except StoppedError as error:
            raise StoppedError(error.number, do="Continue with the same command.") from None
        finally:
            if not any(folder.glob(STATES)):
                _remove(folder)


def discard(folder: Path) -> None:
    """Remove the states in a folder, and the folder if nothing else is in it; not while another process needs them."""
    if folder.is_dir():
        with contextlib.suppress(ConfigError), locked(folder):
            _remove(folder)


def _remove(folder: Path) -> None:
    """Remove states, lock and folder; for the one who holds the lock."""
    for path in (*folder.glob(STATES), folder / LOCK):
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def require_own(folder: Path, inputs: str) -> bool:
    """Return whether there are states in a folder, all saved from these inputs.

    Raises:
        ConfigError: If one was saved from others.
        ArtifactError: If one is damaged.
    """
    states = sorted(folder.glob(STATES))
    if any(read_state(path)["inputs"] != inputs for path in states):
        raise ConfigError(
            f"{folder} holds the state of another unfinished evaluation (--output)",
            do="Give the command it belongs to, with the same files and versions, to go on with it; or name another "
            "--output; or delete the folder.",
        )
    return bool(states)


def stamps(*paths: Path, without: Path | None) -> list[tuple[str, int, int]]:
    """Return name, size and time of change of files, and of all files in folders but those ``without``."""
    files = [file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    known = [file for file in files if file.is_file() and (without is None or without not in file.parents)]
    return [(str(file), (stat := file.stat()).st_size, stat.st_mtime_ns) for file in known]
