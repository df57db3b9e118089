"""What a reader needs to know about where a run came from: versions, plugins, machine, seed, git."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from guard_plugins._version import __version__
from guard_plugins.artifacts.atomic import write_text
from guard_plugins.host import Entry

PACKAGES: Final = ("torch", "torchvision", "accelerate", "numpy", "pydantic", "pluggy", "pyautoattack", "scikit-learn")


def write_manifest(
    path: Path, *, seed: int, entries: Sequence[Entry], device: dict[str, Any], attacks: Mapping[str, str]
) -> None:
    """Write the manifest of a run.

    Args:
        path: The file.
        seed: The run's seed.
        entries: The installed plugins.
        device: What the engine says of the device.
        attacks: How reports write the names of attacks, by name.

    Raises:
        ArtifactError: If the file cannot be written.
    """
    manifest = {
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.argv,
        "seed": seed,
        "versions": {"guard-plugins": __version__, "python": platform.python_version()} | _versions(),
        "plugins": [
            {"name": e.name, "distribution": e.distribution, "version": e.version, "status": e.status} for e in entries
        ],
        "machine": {"platform": platform.platform(), "processor": platform.machine(), "cpus": os.cpu_count(), **device},
        "git": _git_state(),
        "attacks": dict(attacks),
    }
    write_text(path, json.dumps(manifest, indent=2) + "\n")


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _git_state() -> dict[str, Any] | None:
    """Return commit and cleanliness of the working folder's repository, or None outside of one."""
    try:
        commit = _git("rev-parse", "HEAD")
        return {"commit": commit, "clean": not _git("status", "--porcelain")}
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*arguments: str) -> str:
    result = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True, timeout=10, cwd=Path.cwd())
    return result.stdout.strip()
