"""What a stage of a run is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from guard_plugins.pipeline.context import RunContext


@dataclass(frozen=True)
class StageOutput:
    """What a stage leaves on disk.

    Attributes:
        files: Its files; the stage is done again when one of them changes.
        notes: What else is kept with its record; values that JSON can hold.
    """

    files: list[Path]
    notes: dict[str, Any] = field(default_factory=dict)


class Stage(ABC):
    """One stage of a run.

    Attributes:
        name: What ``stages.json``, progress and the report's times call it.
        memory_option: The option to lower where the stage runs out of memory; empty where there is none.
        timed: Whether its time is shown and reported.
        plugins: The kinds of plugins whose code it runs.
    """

    name: ClassVar[str]
    memory_option: ClassVar[str] = ""
    timed: ClassVar[bool] = True
    plugins: ClassVar[tuple[str, ...]] = ("methods", "datasets", "networks", "recipes", "augmentations")

    def needed(self, run: RunContext) -> bool:
        """Return whether this run has such a stage."""
        return True

    @abstractmethod
    def inputs(self, run: RunContext) -> list[Any]:
        """Return what the result depends on: settings, and hashes of earlier stages' files; values that JSON can hold.

        A finished stage whose inputs changed is done again, and so is one whose loop's state was saved under others.
        """

    @abstractmethod
    def do(self, run: RunContext) -> StageOutput | None:
        """Do the work, set the stage's part of ``run.results``, and return its files; None where it keeps none.

        Raises:
            GuardError: If anything goes wrong.
            StoppedError: If the run was asked to stop.
        """

    def share(self, run: RunContext) -> None:
        """Make the items that are this process's share and write nothing else; returns where there are no items.

        Raises:
            ShareDone: When they are made.
        """
        return

    def restore(self, run: RunContext) -> None:
        """Set the stage's part of ``run.results`` from the files of an earlier process.

        Raises:
            ArtifactError: If a file is damaged.
        """
        raise NotImplementedError(f"the stage {self.name} keeps files, so it must be able to read them")
