"""Where a run came from: the versions, plugins and machine of every process that worked on it, seed, git."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from guard_plugins._version import __version__
from guard_plugins.artifacts.atomic import write_text
from guard_plugins.artifacts.reading import read_json
from guard_plugins.errors import DamagedError
from guard_plugins.host import Entry
from guard_plugins.host.used import Used
from guard_plugins.pipeline.git import git_state

PACKAGES: Final = ("torch", "torchvision", "accelerate", "numpy", "pydantic", "pluggy", "pyautoattack", "scikit-learn")
USED: Final = "used"
"""Key of the plugins whose code the run uses, in the versions it uses."""
RESUMED: Final = "resumed"
"""Key of the processes that went on with a run under other versions, plugins or machines than the one before."""


def record_process(
    path: Path, *, seed: int, entries: Sequence[Entry], device: Mapping[str, Any], attacks: Mapping[str, str],
    parts: Sequence[Used] = (),
) -> str:  # fmt: skip
    """Record this process in the manifest of a run: a new one, or one that is resumed.

    The manifest of the first process is kept. One that resumes the run is added to it where versions, plugins, machine
    or commit are not those of the process before.

    Args:
        path: The manifest.
        seed: Seed of the run.
        entries: The plugins that are installed.
        device: Where the run computes.
        attacks: How reports write the names of attacks, by name.
        parts: Whose code the run uses.

    Returns:
        A sentence on what changed since the process before; empty for a new run, and where nothing did.

    Raises:
        DamagedError: If there is a manifest that cannot be read.
        ArtifactError: If the file cannot be written.
    """
    now = {**_facts(entries, device), USED: [part._asdict() for part in parts]}
    if not path.exists():
        _write(path, {**_when(), "seed": seed, **now, "attacks": dict(attacks)})
        return ""
    manifest = read_json(path, do="Delete it: a new one is then written.")
    later = manifest.get(RESUMED, []) if isinstance(manifest, dict) else None
    if not isinstance(later, list) or not all(isinstance(process, dict) for process in later):
        raise DamagedError(f"{path} is no manifest of a run", do="Delete it: a new one is then written.")
    before = later[-1] if later else manifest
    changed = [name for name in now if before.get(name, [] if name == USED else None) != now[name]]
    if changed:
        _write(path, {**manifest, RESUMED: [*later, {**_when(), **now}]})
    return _sentence(before, now, changed)


def _when() -> dict[str, Any]:
    return {"created": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "command": sys.argv}


def _facts(entries: Sequence[Entry], device: Mapping[str, Any]) -> dict[str, Any]:
    """Return what may change the numbers of a run; values that JSON gives back as they are."""
    return {
        "versions": {"guard-plugins": __version__, "python": platform.python_version()} | _versions(),
        "plugins": [
            {"name": e.name, "distribution": e.distribution, "version": e.version, "status": e.status} for e in entries
        ],
        "machine": {"platform": platform.platform(), "processor": platform.machine(), "cpus": os.cpu_count(), **device},
        "git": git_state(Path.cwd()),
    }


def _sentence(before: Mapping[str, Any], now: Mapping[str, Any], changed: Sequence[str]) -> str:
    old = before.get("versions")
    old = old if isinstance(old, dict) else {}
    versions = [
        f"{name} {old.get(name, 'unknown')} before, {value} now"
        for name, value in now["versions"].items()
        if old.get(name) != value
    ]
    others = ["code of plugins" if name == USED else name for name in changed if name not in ("versions", "git")]
    if not versions and not others:
        return ""
    parts = [*versions, *(f"other {name if name != 'machine' else 'machine or device'}" for name in others)]
    return f"warning: this run was begun under other conditions, and its numbers may mix both: {'; '.join(parts)}"


def _write(path: Path, manifest: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(manifest, indent=2) + "\n")


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
