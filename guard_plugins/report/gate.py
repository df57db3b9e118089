"""The release gate in reports, with the items that need a baseline to compare with."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guard_plugins.artifacts.report import GateItem, Report
from guard_plugins.evaluation.gate.comparison import clean_is_kept, gains_agree
from guard_plugins.evaluation.gate.ordering import ABOVE_CHANCE
from guard_plugins.report.comparison import KINDS, Comparison, Experiment, baseline_of


@dataclass(frozen=True)
class Verdicts:
    """The gate's items on one kind of model of one experiment.

    Attributes:
        label: The experiment.
        kind: The kind of model, as in headings.
        items: The items.
        next_command: What to run after a failure; empty where nothing is stronger.
    """

    label: str
    kind: str
    items: Sequence[GateItem]
    next_command: str = ""

    def of(self, verdict: str) -> list[GateItem]:
        """Return the items that have the verdict."""
        return [item for item in self.items if item.verdict == verdict]

    @property
    def at_chance(self) -> bool:
        """Whether the model is no better than chance."""
        return any(item.name == ABOVE_CHANCE for item in self.of("warning"))

    @property
    def tally(self) -> str:
        """The number of items by verdict."""
        return tally(self.items)


def learned_nothing(report: Report) -> list[str]:
    """Return a warning for every kind of model that is not above chance, and what to do about the first."""
    found = [
        f"warning: {KINDS[kind].lower()}: no better than chance, so its numbers mean nothing ({item.figure})"
        for kind, items in report.gate.items()
        for item in items
        if item.name == ABOVE_CHANCE and item.verdict == "warning"
    ]
    if any("teacher" in line.split(":")[1] for line in found):
        found.append("  do:    train it longer (--teacher.epochs), or on more images, or with a smaller --guard.h-rms")
    return found


def of_chance(gate: Sequence[Verdicts], *, several: bool) -> list[str]:
    """Return a sentence that names the models that are no better than chance; nothing where there are none.

    Args:
        gate: The items.
        several: Whether there are several experiments, so that one has to say whose.
    """
    below = [verdict for verdict in gate if verdict.at_chance]
    found = [f"{verdict.label} ({verdict.kind.lower()})" if several else verdict.kind.lower() for verdict in below]
    return [f"No better than chance: {', '.join(found)}. Such numbers mean nothing."] if found else []


def verdicts(comparison: Comparison) -> list[Verdicts]:
    """Return the items on every experiment and kind of model; those that need a baseline use one of the runs."""
    found = []
    for entry in comparison.entries:
        for kind, heading in KINDS.items():
            items = _filled(entry.report.gate.get(kind, []), _against_baseline(entry, kind, comparison))
            if items and (kind in comparison.kinds or any(item.verdict == "failed" for item in items)):
                found.append(Verdicts(entry.label, heading, items, stronger(entry)))
    return found


def stronger(entry: Experiment) -> str:
    """Return the command that attacks the models of a run more strongly; empty where there is no stronger protocol."""
    report = entry.report
    path = entry.first.path
    return stronger_command(path, report.protocol, teacher=report.models.teacher is not None)


def stronger_command(folder: Path, protocol: str, *, teacher: bool) -> str:
    """Return the command that does a run again under stronger attacks; empty where there are none.

    Args:
        folder: The run.
        protocol: Its evaluation protocol.
        teacher: Whether it has a teacher, which is then not trained again.
    """
    if protocol != "quick":
        return ""
    run = shlex.quote(str(folder))
    given = f" --teacher {run}" if teacher else ""
    return f"guard-run --config {shlex.quote(str(folder / 'config.yaml'))}{given} --evaluation.protocol standard"


def tally(items: Sequence[GateItem]) -> str:
    """Return the number of items by verdict, in words."""
    counts = Counter(item.verdict for item in items)
    known = [(counts[name], name) for name in ("passed", "failed", "warning", "not run") if counts[name]]
    return ", ".join(f"{count} {name}{'s' if name == 'warning' and count > 1 else ''}" for count, name in known)


def failures(report: Report) -> list[str]:
    """Return a few lines for every failed item of a run."""
    return [line for kind, items in report.gate.items() for line in failed_lines(KINDS[kind].lower(), items)]


def failed_lines(label: str, items: Sequence[GateItem]) -> list[str]:
    """Return a few lines for every failed item of a model; if there are any, its numbers must not be quoted."""
    return [
        f"Do not quote the numbers of the {label} yet. {sentence(item.title)}\n"
        f"  check: {item.name}\n  seen:  {item.figure}\n  means: {item.suggests}"
        for item in items
        if item.verdict == "failed"
    ]


def sentence(text: str) -> str:
    """Return a finding as a sentence: with a capital and a full stop."""
    return f"{text[:1].upper()}{text[1:]}."


def _against_baseline(entry: Experiment, kind: str, comparison: Comparison) -> list[GateItem]:
    baseline = baseline_of(entry, kind, comparison)
    if baseline is None:
        return []
    ours, theirs = entry.models[kind], baseline.models[kind]
    results: Any = ours.robust  # these items need only what a report keeps of the results
    before: Any = theirs.robust
    return [clean_is_kept(ours.clean, theirs.clean), gains_agree(results, before)]


def _filled(items: Sequence[GateItem], better: Sequence[GateItem]) -> list[GateItem]:
    known = {item.name: item for item in better}
    return [known.get(item.name, item) if item.verdict == "not run" else item for item in items]
