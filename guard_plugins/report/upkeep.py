"""The parts of a report that tell what went on around the numbers: states saved, images skipped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pydantic import BaseModel, ConfigDict

NAMED: Final = 5
"""Skipped images that are named; the others are counted."""


class Saves(BaseModel):
    """What it cost to keep the run resumable, in the process that finished it.

    Attributes:
        count: Number of saves of a loop's state.
        seconds: Time they took.
        share: The same as a fraction of the time of all stages.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int
    seconds: float
    share: float

    def sentence(self) -> str:
        """Return the cost in words."""
        return f"checkpoints: {self.count} saves took {self.seconds:.1f} s, {100 * self.share:.2f} % of the run"


class Skipped(BaseModel):
    """Images of the data set that could not be read and were left out, as ``--data.skip-corrupt`` asks.

    Attributes:
        count: Number of images.
        first: Paths of the first few.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int
    first: list[str]

    @classmethod
    def of(cls, paths: Sequence[str]) -> Skipped | None:
        """Return what to report about these files; None where there are none."""
        return cls(count=len(paths), first=list(paths[:NAMED])) if paths else None

    def sentence(self) -> str:
        """Return the loss in words."""
        more = f" and {self.count - len(self.first)} more" if self.count > len(self.first) else ""
        return f"skipped {self.count} images that cannot be read: {', '.join(self.first)}{more}"
