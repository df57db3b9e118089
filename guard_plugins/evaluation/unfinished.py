"""The state of an evaluation outside of a run, kept in a folder until the result is safe."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from guard_plugins.artifacts.atomic import made
from guard_plugins.artifacts.lock import locked
from guard_plugins.stopping import StoppedError, StopRequest


@contextlib.contextmanager
def kept(folder: Path | None) -> Iterator[StopRequest]:
    """Open a folder for the state of an evaluation; while it is open, signals stop at safe points.

    The folder stays if there is a state in it, however the context is left. Without a folder, nothing is kept and
    signals end the process as usual.

    Raises:
        StoppedError: If a signal asked to stop.
        ConfigError: If another process is at work in the folder.
        ArtifactError: If the folder cannot be written.
    """
    if folder is None:
        yield StopRequest()
        return
    with locked(made(folder)), StopRequest().listening() as stop:
        try:
            yield stop
        except StoppedError as error:
            raise StoppedError(error.number, do="Go on with the same command.") from None
        finally:
            if not any(folder.glob("*.safetensors")):
                shutil.rmtree(folder)


def stamps(*paths: Path) -> list[tuple[str, int, int]]:
    """Return name, size and time of change of files and of all files in folders, which change when a file does."""
    files = [file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    return [(str(file), (stat := file.stat()).st_size, stat.st_mtime_ns) for file in files if file.is_file()]
