"""Which stages of a run are finished, from which inputs, and what their files hashed to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from guard_plugins.artifacts.atomic import write_text
from guard_plugins.errors import ArtifactError


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
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ArtifactError(f"Cannot read {path}", seen=error.strerror or str(error)) from error


class Ledger:
    """The record of finished stages, ``stages.json``.

    Args:
        path: The file; read where it exists.

    Raises:
        ArtifactError: If it exists but is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stages: dict[str, dict[str, Any]] = {}
        if path.exists():
            try:
                self._stages = {name: dict(entry) for name, entry in json.loads(path.read_text()).items()}
            except (OSError, ValueError, AttributeError, TypeError) as error:
                raise ArtifactError(
                    f"{path} is damaged", seen=str(error), do="Delete it; finished stages are then redone."
                ) from error

    def why_redo(self, stage: str, inputs: str) -> str | None:
        """Return why a stage must be done (again): an empty string if it never finished, None if it stands.

        Args:
            stage: Name of the stage.
            inputs: Its fingerprint now.
        """
        entry = self._stages.get(stage)
        if entry is None:
            return ""
        if entry.get("inputs") != inputs:
            return "its settings or inputs changed"
        for name, digest in entry.get("files", {}).items():
            path = self._path.parent / name
            if not path.is_file():
                return f"{name} is missing"
            if file_hash(path) != digest:
                return f"{name} was altered or truncated"
        return None

    def hashes(self, stage: str) -> dict[str, str]:
        """Return the hashes of a finished stage's files by name."""
        return dict(self._stages.get(stage, {}).get("files", {}))

    def notes(self, stage: str) -> dict[str, Any]:
        """Return what else was recorded with a finished stage."""
        return dict(self._stages.get(stage, {}).get("notes", {}))

    def finish(self, stage: str, inputs: str, files: Sequence[Path], **notes: Any) -> None:
        """Record a stage as finished, with its files' hashes and notes that JSON can hold.

        Raises:
            ArtifactError: If the record cannot be written.
        """
        root = self._path.parent
        hashes = {path.relative_to(root).as_posix(): file_hash(path) for path in files}
        self._stages[stage] = {"inputs": inputs, "files": hashes, "notes": notes}
        write_text(self._path, json.dumps(self._stages, indent=1) + "\n")
