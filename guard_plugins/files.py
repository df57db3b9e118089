"""What may be opened: whatever reads a file that a user named, or that lies in a run's folder, asks this first."""

from __future__ import annotations

from pathlib import Path


def regular(path: Path) -> Path:
    """Return a path unless it leads to a pipe, a device or a folder.

    A program would hang at the opening of a pipe, and where a library opens it in native code, no signal ends that.
    A path that does not exist is returned: its opening says so.

    Raises:
        OSError: If it does.
    """
    if path.exists() and not path.is_file():
        raise OSError("it is no regular file")
    return path
