"""What a resumed run says where the code it was made with is gone."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from guard_plugins.errors import ConfigError
from guard_plugins.files import regular


def require_files(folder: Path, values: Mapping[str, Any]) -> None:
    """Check that the plugin files of a run are still there.

    Args:
        folder: Folder of the run.
        values: What its config.yaml holds.

    Raises:
        ConfigError: If one is not.
    """
    files = values.get("plugin")
    for name in files if isinstance(files, list) else ():
        if isinstance(name, str) and not Path(name).is_file():
            raise ConfigError(
                f"The plugin file {name}, which this run was made with, is gone (--resume)",
                seen=_origin(folder, Path(name).name) or "the run does not say what was in it",
                do=f"Put it back, or say where it is now: guard-run --resume {folder} --plugin FILE",
            )


def uninstalled(folder: Path, error: ConfigError) -> ConfigError:
    """Return the error for a resumed run whose method, data set or network nobody provides any more.

    Args:
        folder: Folder of the run.
        error: What was said of the name.
    """
    origins = [part["origin"] for part in _used(folder) if repr(part["name"]) in error.what]
    if not origins:
        return error
    distribution, _, version = origins[0].partition(" ")
    return ConfigError(
        f"{error.what}: it is not installed any more", seen=f"this run was made with {origins[0]}",
        do=f"Install it again: pip install '{distribution}=={version}'",
    )  # fmt: skip


def _origin(folder: Path, plugin: str) -> str:
    return next((part["origin"] for part in _used(folder) if part["plugin"] == plugin), "")


def _used(folder: Path) -> Sequence[Mapping[str, str]]:
    """Return the parts that a run's manifest names; none where it cannot be read."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        parts = json.loads(regular(folder / "manifest.json").read_text(encoding="utf-8"))["used"]
        return [{key: str(part[key]) for key in ("name", "plugin", "origin")} for part in parts]
    return []
