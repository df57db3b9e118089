"""Where the numbers come from: notes, settings that differ, commands, versions, machine, configuration."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Final

import yaml

from guard_plugins.artifacts.formatting import numbers
from guard_plugins.report.comparison import Comparison, Experiment
from guard_plugins.report.runs import StoredRun, whole_settings_of

FEW: Final = 3
"""Experiments that are named one by one."""
_NUMBER: Final = re.compile(r"[-+]?\d[\d.,]*(e[-+]?\d+)?")
"""What may differ between the same note of two seeds."""
_LEFT_OUT: Final = {
    "method", "ipc", "no_guard", "teacher.training", "student.guard_weight", "student.feature_weight",
    "evaluation.images", "evaluation.gate", "evaluation.batch_size", "distill.validate_every", "keep_students",
    "plugin",
}  # fmt: skip
"""Settings that the labels of experiments say in words, and those that change no number."""


@dataclass(frozen=True)
class Origin:
    """Where one run comes from.

    Attributes:
        label: The experiment, with the seed if it has several runs.
        command: The command line.
        facts: Versions, machine and commit in a sentence.
        config: The resolved configuration as YAML.
    """

    label: str
    command: str
    facts: str
    config: str


def provenance(comparison: Comparison) -> list[Origin]:
    """Return the origin of every run."""
    return [
        Origin(
            entry.label + (f", seed {run.report.seed}" if len(entry.runs) > 1 else ""), command(run), _facts(run),
            yaml.safe_dump(dict(run.config), sort_keys=False, allow_unicode=True),
        )
        for entry in comparison.entries
        for run in entry.runs
    ]  # fmt: skip


def notes(comparison: Comparison) -> list[str]:
    """Return what must be known of the numbers: the notes of the runs, and settings that differ and no label has."""
    entries, told = comparison.entries, dict[str, list[tuple[Experiment, StoredRun]]]()
    for entry in entries:
        for run in entry.runs:
            for note in dict.fromkeys(_like_the_first(entry, note) for note in run.report.notes):
                told.setdefault(note, []).append((entry, run))
    every = sum(len(entry.runs) for entry in entries)
    found = [note if len(by) == every else f"{_said_by(by)}: {note}" for note, by in told.items()]
    differing = _differing(entries)
    return [*found, f"The experiments also differ in {'; '.join(differing)}."] if differing else found


def _like_the_first(entry: Experiment, note: str) -> str:
    """Return a note, or that of an experiment's first run which differs from it in numbers alone."""
    known = {_NUMBER.sub("", other): other for other in reversed(entry.report.notes)}
    first = known.get(_NUMBER.sub("", note), note)
    others = {one for run in entry.runs for one in run.report.notes if _NUMBER.sub("", one) == _NUMBER.sub("", first)}
    return first if others <= {first} else f"{first} (seed {entry.report.seed}; other seeds have other numbers)"


def _said_by(told: Sequence[tuple[Experiment, StoredRun]]) -> str:
    """Return the experiments that ``told`` holds all runs of, and for the others the seeds that it holds."""
    seeds: dict[Experiment, list[int]] = {}
    for entry, run in told:
        seeds.setdefault(entry, []).append(run.report.seed)
    return " and ".join(
        entry.label if len(of) == len(entry.runs) else f"{entry.label}, seed{'s' if len(of) > 1 else ''} {numbers(of)}"
        for entry, of in seeds.items()
    )


def _differing(entries: Sequence[Experiment]) -> list[str]:
    """Return the settings of which experiments have several values and their labels say nothing, value by value."""
    values: dict[str, dict[str, list[str]]] = {}
    for entry in entries:
        for name, value in whole_settings_of(entry.first).items():
            if name not in _LEFT_OUT and not (name.startswith("guard.") and entry.report.guard is None):
                values.setdefault(name, {}).setdefault(str(value), []).append(entry.label)
    return [
        f"{name} ({'; '.join(f'{value}: {_listed(labels)}' for value, labels in kinds.items())})"
        for name, kinds in values.items()
        if len(kinds) > 1 and not all(f"{name} {value}" in label for value, labels in kinds.items() for label in labels)
    ]


def _listed(labels: Sequence[str]) -> str:
    return " and ".join(map(repr, labels)) if len(labels) <= FEW else f"{len(labels)} of them"


def command(run: StoredRun) -> str:
    """Return the command line that made a run, with the program's folder left out."""
    given = run.manifest.get("command")
    if not isinstance(given, list) or not given:
        return "not recorded"
    return shlex.join([PurePath(str(given[0])).name, *map(str, given[1:])])


def _facts(run: StoredRun) -> str:
    first, *later = run.processes
    parts = [*_process(first, "Begun"), f"seed {run.report.seed}"]
    for process in later:
        parts += _process(process, "Resumed under other conditions")
    return ". ".join(part for part in parts if part) + "."


def _process(said: Mapping[str, Any], what: str) -> list[str]:
    """Return when a process worked on a run, and with what."""
    versions, machine, git = (_mapping(said.get(name)) for name in ("versions", "machine", "git"))
    changes = " with changes" if git.get("clean") is False else ""
    return [
        f"{what} {said['created']}" if "created" in said else "",
        ", ".join(f"{name} {version}" for name, version in versions.items()),
        ", ".join(f"{name} {value}" for name, value in machine.items()),
        f"working folder at commit {str(git['commit'])[:12]}{changes}" if git.get("commit") else "",
    ]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
