"""Which stages of a run are finished, from which inputs, and what their files hashed to."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, RootModel

from guard_plugins.artifacts.atomic import write_text
from guard_plugins.artifacts.parts import HookReport
from guard_plugins.artifacts.reading import read_model
from guard_plugins.errors import DamagedError
from guard_plugins.files import regular


def fingerprint(*inputs: Any) -> str:
    """Return a short hash of everything a stage depends on (values that JSON can hold)."""
    text = json.dumps(inputs, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        ArtifactError: If it cannot be read.
    """
    try:
        with regular(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DamagedError(f"Cannot read {path}", seen=error.strerror or str(error)) from error


def _inside(name: str) -> str:
    if not name or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\0" in name:
        raise ValueError("a file outside of the run's folder")
    return name


class Notes(BaseModel):
    """What else is recorded with a finished stage.

    Attributes:
        hook: What the curvature hook measured in it.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    hook: HookReport | None = None


class StageRecord(BaseModel):
    """A finished stage.

    Attributes:
        inputs: Fingerprint of what it was made from.
        files: Hashes of its files, by path within the run's folder.
        notes: What else was recorded.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    inputs: str
    files: dict[Annotated[str, AfterValidator(_inside)], str]
    notes: Notes = Notes()


class StageRecords(RootModel[dict[str, StageRecord]]):
    """The content of ``stages.json``: the finished stages by name."""


class Ledger:
    """The record of finished stages, ``stages.json``.

    Args:
        path: The file; read where it exists.

    Raises:
        DamagedError: If it exists but is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stages: dict[str, StageRecord] = {}
        if os.path.lexists(path):
            self._stages = dict(read_model(path, StageRecords, do="Delete it; finished stages are then redone.").root)

    def why_redo(self, stage: str, inputs: str) -> str | None:
        """Return why a stage must be done (again): an empty string if it never finished, None if it stands.

        Args:
            stage: Name of the stage.
            inputs: Its fingerprint now.
        """
        entry = self._stages.get(stage)
        if entry is None:
            return ""
        if entry.inputs != inputs:
            return "its settings or inputs changed"
        for name, digest in entry.files.items():
            path = self._path.parent / name
            if not path.is_file():
                return f"{name} is missing"
            if file_hash(path) != digest:
                return f"{name} was altered or truncated"
        return None

    def hashes(self, stage: str) -> dict[str, str]:
        """Return the hashes of a finished stage's files by name."""
        entry = self._stages.get(stage)
        return dict(entry.files) if entry else {}

    def notes(self, stage: str) -> dict[str, Any]:
        """Return what else was recorded with a finished stage."""
        entry = self._stages.get(stage)
        return entry.notes.model_dump(exclude_unset=True) if entry else {}

    def finish(self, stage: str, inputs: str, files: Sequence[Path], **notes: Any) -> None:
        """Record a stage as finished, with its files' hashes and notes that JSON can hold.

        Raises:
            ArtifactError: If the record cannot be written.
        """
        root = self._path.parent
        hashes = {path.relative_to(root).as_posix(): file_hash(path) for path in files}
        self._stages[stage] = StageRecord(inputs=inputs, files=hashes, notes=Notes.model_validate(notes))
        content = {name: entry.model_dump(exclude_unset=True) for name, entry in self._stages.items()}
        write_text(self._path, json.dumps(content, indent=1) + "\n")
