"""Paths that a file system can hold, checked where they are given."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

LONGEST_NAME: Final = 255
"""Bytes of the longest name of a file or folder on common file systems."""
LONGEST_PATH: Final = 4000
"""Bytes of the longest path, with room for the names within a run's folder."""


def usable_path(path: Path) -> Path:
    """Return a path, with ``~`` written out.

    Raises:
        ValueError: If no file system can hold it, or there is no such home folder.
    """
    if "\0" in str(path):
        raise ValueError("a path cannot hold the character NUL")
    try:
        whole = path.expanduser()
    except RuntimeError:
        raise ValueError(f"the home folder of {path.parts[0]} is not known") from None
    if any(len(os.fsencode(part)) > LONGEST_NAME for part in whole.parts) or len(os.fsencode(whole)) > LONGEST_PATH:
        raise ValueError(f"a name in a path has at most {LONGEST_NAME} bytes, a path {LONGEST_PATH}")
    return whole
