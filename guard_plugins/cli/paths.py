"""Paths on the command line."""

from __future__ import annotations

from pathlib import Path

from guard_plugins.config.paths import usable_path
from guard_plugins.errors import ConfigError


def path_argument(text: str) -> Path:
    """Return the path that an argument names, with ``~`` written out; for ``add_argument(type=...)``.

    Raises:
        ConfigError: If it is empty, or no file system can hold it.
    """
    if not text:
        raise ConfigError("An empty path was given", do="Give the name of a file or folder; . is the working folder.")
    try:
        return usable_path(Path(text))
    except ValueError as error:
        short = text if len(text) <= 80 else text[:77] + "..."
        raise ConfigError(f"{short!r} cannot be a path", seen=str(error), do="Give another path.") from None
