"""The folder of a run: where each artifact lives, and that no run is ever overwritten."""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from guard_plugins.artifacts.atomic import PART, write_text
from guard_plugins.artifacts.lock import LOCK, locked
from guard_plugins.errors import ConfigError, GuardError

CONFIG: Final = "config.yaml"
"""Name of the first file of a run."""


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run's artifacts.

    Attributes:
        path: The folder.
    """

    path: Path

    @classmethod
    def create(cls, path: Path) -> RunFolder:
        """Make a new run's folder.

        Raises:
            ConfigError: If it already holds files, or cannot be made or written.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
            _require_new(path)
            with tempfile.TemporaryFile(dir=path):
                pass  # it can be written; a process that is killed here leaves nothing
        except OSError as error:
            raise _unwritable(path, error) from error
        return cls(path)

    def begin(self, config: str) -> None:
        """Write the first file, which makes the folder a run's: of two commands given at once, that of one.

        Args:
            config: The configuration, as YAML.

        Raises:
            ConfigError: If another run began in the folder, or is about to.
            ArtifactError: If it cannot be written.
        """
        with locked(self.path):
            _require_new(self.path)
            write_text(self.config, config)

    def require_finished(self) -> None:
        """Return if the run is finished.

        Raises:
            ConfigError: If it is not, or there is none.
        """
        if not self.report.is_file():
            raise ConfigError(
                f"There is no finished run in {self.path}", seen=f"{self.report} is missing",
                do=f"Give the folder of a finished run; guard-run --resume {self.path} goes on with a stopped one."
                if self.config.is_file() else "Give the folder of a run, such as runs/sre2l-digits-...",
            )  # fmt: skip

    @staticmethod
    def reserve(method: str, dataset: str) -> Path:
        """Make ``runs/<method>-<dataset>-<time>`` in the working folder, numbered where one began in this second.

        Raises:
            ConfigError: If it cannot be made.
        """
        name = f"{method}-{dataset}-{time.strftime('%Y%m%d-%H%M%S')}"
        for number in itertools.count(1):
            path = Path("runs") / (name if number == 1 else f"{name}-{number}")
            try:
                path.mkdir(parents=True)
            except OSError as error:
                if isinstance(error, FileExistsError) and os.path.lexists(path):
                    continue
                raise _unwritable(path, error) from error
            break
        return path

    @classmethod
    @contextlib.contextmanager
    def of_series(cls, given: Path | None, method: str, dataset: str) -> Iterator[Path]:
        """Yield where a series keeps its runs; a folder made for it is removed if the body refuses to begin."""
        path = given or cls.reserve(method, dataset)
        try:
            yield path
        except GuardError:
            if given is None:
                with contextlib.suppress(OSError):
                    path.rmdir()
            raise

    @property
    def config(self) -> Path:
        """The resolved configuration, which reruns the run."""
        return self.path / CONFIG

    @property
    def manifest(self) -> Path:
        """Versions, plugins, machine, seeds."""
        return self.path / "manifest.json"

    @property
    def events(self) -> Path:
        """One event a line."""
        return self.path / "events.jsonl"

    @property
    def stages(self) -> Path:
        """The record of finished stages."""
        return self.path / "stages.json"

    @property
    def checkpoints(self) -> Path:
        """States of unfinished loops; removed when the run is finished."""
        return self.path / "checkpoints"

    @property
    def teacher(self) -> Path:
        """The trained teacher."""
        return self.path / "teacher.safetensors"

    def student(self, number: int, *, hard: bool) -> Path:
        """A student that was kept: the first is number 0."""
        return self.path / "students" / f"student{'-hard' if hard else ''}-{number}.safetensors"

    @property
    def teachers(self) -> Path:
        """Teachers after the first, and the snapshots of all."""
        return self.path / "teachers"

    @property
    def distilled(self) -> Path:
        """The distilled set."""
        return self.path / "distilled"

    @property
    def contact_sheet(self) -> Path:
        """One picture of the distilled set."""
        return self.path / "distilled.png"

    @property
    def labels(self) -> Path:
        """The stored soft labels."""
        return self.path / "labels"

    @property
    def files(self) -> Path:
        """Folders of the method's own."""
        return self.path / "files"

    @property
    def report(self) -> Path:
        """The results as JSON; the Markdown lies beside it."""
        return self.path / "report.json"


def _require_new(path: Path) -> None:
    """Refuse a folder that holds more than what a process leaves that was killed at its first file."""
    if any(entry.name not in (CONFIG + PART, LOCK) for entry in path.iterdir()):
        raise _taken(path)


def _unwritable(path: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"The output folder {path} cannot be made or written (--output)",
        seen=error.strerror or str(error), do="Choose a folder you may write to.",
    )  # fmt: skip


def _taken(path: Path) -> ConfigError:
    """Return the error for a new run's folder that holds something: a run that may go on, or other files."""
    folder = RunFolder(path)
    if not folder.config.is_file():
        return ConfigError(
            f"The output folder {path} is not empty (--output)",
            do="Choose another folder, or move its files away; nothing is overwritten.",
        )
    done = folder.report.is_file()
    return ConfigError(
        f"The output folder {path} holds a {'finished' if done else 'stopped'} run (--output)",
        do="Choose another folder; nothing is overwritten." if done
        else f"Go on with it: guard-run --resume {path}. Or choose another folder; nothing is overwritten.",
    )  # fmt: skip
