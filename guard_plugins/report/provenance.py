"""Where the numbers come from: commands, versions, machine, configuration."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import yaml

from guard_plugins.report.comparison import Comparison
from guard_plugins.report.runs import StoredRun


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
        f"commit {str(git['commit'])[:12]}{changes}" if git.get("commit") else "",
    ]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
