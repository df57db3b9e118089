"""Where a run came from: the versions, plugins and machine of every process that worked on it, seed, git."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from guard_plugins._version import __version__
from guard_plugins.artifacts.atomic import write_text
from guard_plugins.artifacts.reading import read_json
from guard_plugins.data.base import Data
from guard_plugins.data.splits import TensorSplit
from guard_plugins.errors import DamagedError
from guard_plugins.host import Entry
from guard_plugins.host.used import Used
from guard_plugins.pipeline.git import git_state

PACKAGES: Final = ("torch", "torchvision", "accelerate", "numpy", "pydantic", "pluggy", "pyautoattack", "scikit-learn")
USED: Final = "used"
"""Key of the plugins whose code the run uses, in the versions it uses."""
DATA: Final = "data"
"""Key of what tells a data set from another one of that name."""
_READ_BYTES: Final = 2**28
"""Bytes of a split's images that are read to tell it from another; of more, as many spread over it."""
RESUMED: Final = "resumed"
"""Key of the processes that went on with a run under other versions, plugins or machines than the one before."""


def record_process(
    path: Path, *, seed: int, entries: Sequence[Entry], device: Mapping[str, Any], attacks: Mapping[str, str],
    parts: Sequence[Used] = (), data: Data | None = None,
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
        data: The real data; None where they are not to be recorded.

    Returns:
        A sentence on what changed since the process before; empty for a new run, and where nothing did.

    Raises:
        DamagedError: If there is a manifest that cannot be read.
        ArtifactError: If the file cannot be written.
    """
    now = {**_facts(entries, device), USED: [part._asdict() for part in parts]}
    now |= {} if data is None else {DATA: described(data)}
    if not path.exists():
        _write(path, {**_when(), "seed": seed, **now, "attacks": dict(attacks)})
        return ""
    manifest = read_json(path, do="Delete it: a new one is then written.")
    later = manifest.get(RESUMED, []) if isinstance(manifest, dict) else None
    if not isinstance(later, list) or not all(isinstance(process, dict) for process in later):
        raise DamagedError(f"{path} is no manifest of a run", do="Delete it: a new one is then written.")
    before = later[-1] if later else manifest
    unknown: dict[str, Any] = {
        USED: [],
        DATA: now.get(DATA),
    }  # as manifests of earlier versions are, which did not record them
    changed = [name for name in now if before.get(name, unknown.get(name)) != now[name]]
    if changed:
        _write(path, {**manifest, RESUMED: [*later, {**_when(), **now}]})
    return _sentence(before, now, changed)


def described(data: Data) -> dict[str, Any]:
    """Return the sizes of the splits, and a hash of classes, labels, statistics and of images that lie in memory."""
    digest = hashlib.sha256(json.dumps([data.classes, data.image_shape, data.mean, data.std]).encode())
    for split in (data.train, data.test):
        digest.update(_bytes(split.labels))
        if isinstance(split, TensorSplit) and split.pixels.numel():
            size = split.pixels.numel() * split.pixels.element_size()
            digest.update(_bytes(split.pixels[:: -(-size // _READ_BYTES)]))
    return {"train": len(data.train), "test": len(data.test), "sha256": digest.hexdigest()}


def _bytes(tensor: Tensor) -> Any:
    return tensor.detach().cpu().contiguous().view(torch.uint8).numpy()  # NumPy lacks some types of numbers


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
    words = {"machine": "machine or device", DATA: "images in the data set"}
    parts = [*versions, *(f"other {words.get(name, name)}" for name in others)]
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
