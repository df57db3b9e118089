"""Who is at work on an item, as a file says: processes on several hosts share a folder and nothing else.

Locks of the file system are often known on one host only. So a process writes a claim with its place and number, and
touches it while it works. A claim that nobody touches is stale, and another process may take the item over.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from guard_plugins.artifacts.atomic import made, writing
from guard_plugins.files import regular

HEARTBEAT: Final = 10.0
"""Seconds between two touches of a claim."""
STALE: Final = 60.0
"""Seconds after which a claim that was not touched is nobody's; clocks of hosts may differ by less."""


def holder(path: Path) -> str | None:
    """Return who is at work by a claim (``process P on host H``), or None where nobody is.

    Args:
        path: The claim.
    """
    try:
        age = time.time() - path.stat().st_mtime
        said: Any = json.loads(regular(path).read_text(encoding="utf-8"))
        where, process = str(said["place"]), int(said["process"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, RecursionError):  # half written, or by a process that died
        return "another process" if age < STALE else None
    if age >= STALE or (where == place() and not runs(process)):
        return None
    return f"process {process} on {where.split()[0]}"


@contextlib.contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Hold the claim at ``path`` while the context is open; yields False where another process has it.

    Raises:
        ArtifactError: If the folder cannot be written.
    """
    if not _taken(path):
        yield False
        return
    over = threading.Event()
    beat = threading.Thread(target=_touch, args=(path, over), daemon=True)
    beat.start()
    try:
        yield True
    finally:
        over.set()
        beat.join()
        path.unlink(missing_ok=True)


def _taken(path: Path) -> bool:
    made(path.parent)
    with writing(path):
        if path.exists() and holder(path) is None:
            # Renamed, not removed: of several processes that see the stale claim, one succeeds.
            with contextlib.suppress(FileNotFoundError):
                stale = path.with_name(f"{path.name}.{os.getpid()}")
                path.rename(stale)
                stale.unlink(missing_ok=True)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
        except FileExistsError:
            return False
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump({"place": place(), "process": os.getpid()}, file)
        except BaseException:  # on a full disk an empty claim would be left, and hold up the run that is resumed
            path.unlink(missing_ok=True)
            raise
    return True


def _touch(path: Path, over: threading.Event) -> None:
    while not over.wait(HEARTBEAT):
        with contextlib.suppress(OSError):
            os.utime(path)


def place() -> str:
    """Return the host, and where the system tells it, the space in which numbers of processes hold."""
    space = ""
    with contextlib.suppress(OSError):
        space = f" {Path('/proc/self/ns/pid').readlink()}"
    return socket.gethostname() + space


def runs(process: int) -> bool:
    """Return whether a process of this place runs, by its number."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
