"""Folders that are exported whole: a process killed half-way leaves none that reads as a smaller set."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from guard_plugins.artifacts.atomic import made, writing
from guard_plugins.artifacts.sets.distilled import DistilledSetError

UNFINISHED: Final = "unfinished.part"
"""Name of the folder within in which everything is written first."""


@contextlib.contextmanager
def whole(folder: Path) -> Iterator[Path]:
    """Yield a folder to write to; on a clean exit its content is that of ``folder``, otherwise it is removed.

    It lies within, since ``folder`` may be a link or a disk of its own, which no other folder could replace.

    Raises:
        ArtifactError: If something cannot be written.
    """
    part = made(folder / UNFINISHED)
    try:
        yield part
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    with writing(folder):
        for entry in sorted(part.iterdir()):
            entry.rename(folder / entry.name)
        part.rmdir()


def require_finished(folder: Path) -> None:
    """Refuse a folder whose export was killed: some of it may be in its place.

    Raises:
        DistilledSetError: If it is such a folder.
    """
    if (folder / UNFINISHED).exists():
        raise DistilledSetError(
            f"The export to {folder} was stopped half-way", seen=f"{folder / UNFINISHED}",
            do=f"Delete {folder}, and export the run again.",
        )  # fmt: skip
