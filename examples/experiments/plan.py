"""Experiments as files say them: commands, rows, seeds, and which runs need which."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

PLACES: Final = ("data", "teachers")
"""What a command names besides the folders of other runs."""
Chapter = Literal["hook", "images", "training", "attacks", "gpu", "choices"]
CHAPTERS: Final[Mapping[Chapter, str]] = {
    "hook": "What the hook gives students",
    "images": "Distilled images and real ones",
    "training": "Other teachers, other students",
    "attacks": "Under stronger attacks",
    "gpu": "Larger networks and all of CIFAR-10",
    "choices": "How settings were chosen",
}
"""Chapters of the results, in their order."""


class Row(BaseModel):
    """One row of a table: what is added to the command.

    Attributes:
        add: Arguments.
        seeds: Seeds of this row; the experiment's where None.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    add: str = ""
    seeds: list[int] | None = None


class Experiment(BaseModel):
    """One file in ``plans/``.

    Attributes:
        name: Name of the file.
        chapter: Where the results have it.
        title: Heading of the table.
        question: What it is to answer.
        answer: What its records say, sentence by sentence, with numbers to fill in; see :mod:`.answers`.
        command: ``guard-run ...`` or ``guard-eval ...`` with ``{data}`` for the images, ``{teachers}`` for the folder
            of trained teachers that runs share, and ``{other}`` for the folder that the experiment ``other`` made for
            the same row and seed (``{other:row}`` for another row of it).
        seeds: Seeds of every row.
        rows: By name.
        against: Name of the row the others are compared with, seed by seed.
        show: Which kinds of models the table has, of teacher, student and student_hard.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    chapter: Chapter
    title: str
    question: str
    answer: list[str] = []
    command: str
    seeds: list[int] = [0]
    rows: dict[str, Row] = Field(min_length=1)
    against: str | None = None
    show: list[str] = ["teacher", "student", "student_hard"]

    def runs(self) -> list[Run]:
        """Return the runs, all rows of the first seed before those of the second."""
        return [
            Run(self, row, seed)
            for seed in sorted({seed for row in self.rows for seed in self.seeds_of(row)})
            for row in self.rows
            if seed in self.seeds_of(row)
        ]

    def seeds_of(self, row: str) -> list[int]:
        """Return the seeds of a row."""
        own = self.rows[row].seeds
        return self.seeds if own is None else own


@dataclass(frozen=True)
class Run:
    """One command of an experiment.

    Attributes:
        experiment: The experiment.
        row: Name of the row.
        seed: Seed.
    """

    experiment: Experiment
    row: str
    seed: int

    @property
    def name(self) -> str:
        """Name of the run: experiment, row and seed."""
        return f"{self.experiment.name}/{slug(self.row)}-{self.seed}"

    @property
    def evaluates(self) -> bool:
        """Whether the command is guard-eval, which writes a file and no folder."""
        return self.experiment.command.startswith("guard-eval")

    @property
    def output(self) -> str:
        """What ``--output`` says, below the work folder."""
        return f"{self.name}.json" if self.evaluates else self.name

    @cached_property
    def template(self) -> str:
        """The command without any path of this machine, as results show it."""
        parts = [self.experiment.command, self.experiment.rows[self.row].add, f"--seed {self.seed}"]
        return " ".join(part for part in parts if part)

    def needs(self) -> list[str]:
        """Return the names of the runs whose folders the command reads."""
        found = [place for place in re.findall(r"\{([^}]+)\}", self.template) if place not in PLACES]
        return [self._other(place) for place in dict.fromkeys(found)]

    def command(self, data: Path, work: Path) -> list[str]:
        """Return the command with every placeholder filled in.

        Args:
            data: Folder of the images.
            work: Folder of the runs.
        """

        def folder(match: re.Match[str]) -> str:
            place = match[1]
            if place in PLACES:
                return str(data if place == "data" else work / place)
            return str(work / self._other(place))

        words = [re.sub(r"\{([^}]+)\}", folder, word) for word in self.template.split()]
        return [*words, "--output", str(work / self.output)]

    def _other(self, place: str) -> str:
        experiment, _, row = place.partition(":")
        return f"{experiment}/{slug(row or self.row)}-{self.seed}"


def slug(row: str) -> str:
    """Return a row's name as part of a file name."""
    return re.sub(r"[^a-z0-9.=]+", "-", row.lower()).strip("-")


def load(folder: Path) -> list[Experiment]:
    """Return the experiments of a folder of YAML files, by file name.

    Args:
        folder: Where the files are.
    """
    found: list[Experiment] = []
    for path in sorted(folder.glob("*.yaml")):
        values: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        rows = {name: {"add": row} if isinstance(row, str) else row for name, row in values.pop("rows").items()}
        found.append(Experiment.model_validate({**values, "rows": rows, "name": path.stem.partition("-")[2]}))
    return found


def by_chapter(experiments: Sequence[Experiment]) -> dict[str, list[Experiment]]:
    """Return experiments by the title of their chapter; a chapter without any is left out."""
    found = {title: [one for one in experiments if one.chapter == name] for name, title in CHAPTERS.items()}
    return {title: of_chapter for title, of_chapter in found.items() if of_chapter}


def anchor(title: str) -> str:
    """Return what links to a heading end with: lower case, hyphens for spaces, no other punctuation."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
