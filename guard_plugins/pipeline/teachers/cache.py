"""``--teacher.cache``: trained teachers in a folder that several runs share, each under a fingerprint of its making."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import torch

from guard_plugins._version import __version__
from guard_plugins.artifacts.atomic import made, writing
from guard_plugins.artifacts.ledger import file_hash, fingerprint
from guard_plugins.data.base import Split
from guard_plugins.errors import ArtifactError
from guard_plugins.files import regular
from guard_plugins.host import Registered
from guard_plugins.host.discovery import OWN
from guard_plugins.method import Method
from guard_plugins.pipeline.declared import fingerprinted
from guard_plugins.pipeline.preparation import Prepared
from guard_plugins.runtime.teachers import TeacherSpec

CARD: Final = "entry.json"
LOOKED_AT: Final = 256
"""Images of the training data that go into the key, spread over all."""


def key_of(prepared: Prepared, spec: TeacherSpec, device: str, processes: int = 1) -> str:
    """Return a fingerprint of everything a teacher's weights depend on.

    The method goes in only where it trains its teachers itself, so that methods share those of the host.

    Args:
        prepared: The run.
        spec: The teacher.
        device: Kind of the device.
        processes: How many train it together. It matters where BatchNorm is ``local``; else it changes rounding only.
    """
    config, method = prepared.config, prepared.plugin.value
    settings = fingerprinted(config, {"seed", "teacher", "guard", "no_guard", "data"})
    own: list[Any] = []
    if method.train_teacher is not Method.train_teacher or "train_teacher" not in method.guarded:
        own = [method.name, prepared.plugin.origin, config.model_dump(mode="json", include=set(prepared.own_options))]
    data = [
        prepared.data.name,
        prepared.data.mean,
        prepared.data.std,
        prepared.data.classes,
        _seen(prepared.data.train),
    ]
    parts = [processes] if config.teacher.batchnorm == "local" else []
    return fingerprint(
        __version__, torch.__version__, settings, asdict(spec), own, data, device, *parts, *_code(prepared, spec)
    )


def _code(prepared: Prepared, spec: TeacherSpec) -> list[str]:
    """Return the plugins, with their versions, whose network, data set or augmentation a teacher is made with."""
    config, host = prepared.config, prepared.host
    parts: list[Registered[Any]] = [
        host.networks.registered(spec.network or config.teacher.network), host.datasets.registered(config.dataset),
        host.augmentations.registered(config.teacher.augment),
    ]  # fmt: skip
    return sorted({part.origin for part in parts if part.origin.split()[0] != OWN})


def _seen(split: Split) -> str:
    index = torch.linspace(0, len(split) - 1, min(LOOKED_AT, len(split))).long()
    state = hashlib.blake2b(split.labels.numpy().tobytes(), digest_size=16)
    state.update(split.images(index).contiguous().numpy().tobytes())
    return state.hexdigest()


class TeacherCache:
    """A folder with one entry, a folder of files and their hashes, for every teacher.

    Args:
        folder: The folder; made when the first entry is stored.
        say: Where to say what was found.
    """

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self._folder, self._say = folder, say

    def fetch(self, key: str, files: Mapping[str, Path]) -> bool:
        """Copy an entry's files, and return whether there is a sound one.

        Args:
            key: Its key.
            files: Where its files go, by their names in the entry.

        Raises:
            ArtifactError: If a file cannot be written.
        """
        entry = self._folder / key
        if not entry.exists():
            return False
        problem = _problem(entry, key, files)
        if problem:
            self._say(f"the teacher in {entry} is not used, and trained anew: {problem}")
            return False
        for name, path in files.items():
            made(path.parent)
            with writing(path):
                _copy(entry / name, path)
        self._say(f"teacher taken from {entry} (--teacher.cache)")
        return True

    def store(self, key: str, files: Mapping[str, Path]) -> None:
        """Store files as an entry, whole or not at all; a damaged one is replaced.

        Args:
            key: Its key.
            files: The files, by their names in the entry.

        Raises:
            ArtifactError: If they cannot be written.
        """
        entry = made(self._folder) / key
        with writing(entry):
            part = Path(tempfile.mkdtemp(prefix=f"{key}.", suffix=".part", dir=self._folder))
            try:
                for name, path in files.items():
                    _copy(path, part / name)
                card = {"key": key, "files": {name: file_hash(part / name) for name in files}}
                (part / CARD).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
                if entry.exists() and _problem(entry, key, files):
                    shutil.rmtree(entry)
                if not entry.exists():  # else another run stored the same teacher meanwhile
                    part.chmod(0o755)
                    part.rename(entry)
            finally:
                shutil.rmtree(part, ignore_errors=True)


def _copy(source: Path, target: Path) -> None:
    part = target.with_name(target.name + ".part")
    shutil.copyfile(source, part)
    os.replace(part, target)  # noqa: PTH105 - over a file or a link, never through it


def _problem(entry: Path, key: str, files: Mapping[str, Path]) -> str:
    """Return what is wrong with an entry; empty if nothing is."""
    try:
        card = json.loads(regular(entry / CARD).read_text(encoding="utf-8"))
        if card["key"] != key or card["files"].keys() != files.keys():
            return f"its {CARD} belongs to another teacher"
        wrong = [name for name, digest in card["files"].items() if file_hash(entry / name) != digest]
        return f"{wrong[0]} was altered or truncated" if wrong else ""
    except (OSError, ArtifactError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return f"its {CARD} or a file is damaged or missing ({type(error).__name__})"
