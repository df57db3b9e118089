"""The release gate's verdicts as a report shows them, with the items that only a comparison can decide."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from guard_plugins.artifacts.report import GateItem, Report
from guard_plugins.evaluation.gate.comparison import clean_is_kept, gains_agree
from guard_plugins.report.comparison import KINDS, Comparison, Entry, baseline_of


@dataclass(frozen=True)
class Verdicts:
    """What the gate said of one kind of model of one experiment.

    Attributes:
        label: The experiment.
        kind: The kind of model, as headings call it.
        items: Every item.
    """

    label: str
    kind: str
    items: Sequence[GateItem]

    def of(self, verdict: str) -> list[GateItem]:
        """Return the items with a verdict."""
        return [item for item in self.items if item.verdict == verdict]

    @property
    def tally(self) -> str:
        """How many items have which verdict."""
        return tally(self.items)


def verdicts(comparison: Comparison) -> list[Verdicts]:
    """Return the verdicts on every experiment, kind by kind; what a baseline among the runs decides is filled in."""
    found = []
    for entry in comparison.entries:
        for kind, heading in KINDS.items():
            if kind in entry.report.gate:
                items = _filled(entry.report.gate[kind], _against_baseline(entry, kind, comparison))
                found.append(Verdicts(entry.label, heading, items))
    return found


def tally(items: Sequence[GateItem]) -> str:
    """Return how many items have which verdict."""
    counts = Counter(item.verdict for item in items)
    known = [(counts[name], name) for name in ("passed", "failed", "warning", "not run") if counts[name]]
    return ", ".join(f"{count} {name}{'s' if name == 'warning' and count > 1 else ''}" for count, name in known)


def failures(report: Report) -> list[str]:
    """Return one line for every failed item of a run."""
    return [line for kind, items in report.gate.items() for line in failed_lines(KINDS[kind].lower(), items)]


def failed_lines(label: str, items: Sequence[GateItem]) -> list[str]:
    """Return one line for every failed item of a model: with any, its numbers are not to be quoted."""
    return [
        f"RELEASE GATE FAILED for the {label}: {item.name}: {item.figure}. It suggests: {item.suggests}"
        for item in items
        if item.verdict == "failed"
    ]


def _against_baseline(entry: Entry, kind: str, comparison: Comparison) -> list[GateItem]:
    baseline = baseline_of(entry, kind, comparison)
    if baseline is None:
        return []
    ours, theirs = entry.models[kind], baseline.models[kind]
    results: Any = ours.robust  # what a report keeps of an attack's results is all that these items look at
    before: Any = theirs.robust
    return [clean_is_kept(ours.clean, theirs.clean), gains_agree(results, before)]


def _filled(items: Sequence[GateItem], better: Sequence[GateItem]) -> list[GateItem]:
    known = {item.name: item for item in better}
    return [known.get(item.name, item) if item.verdict == "not run" else item for item in items]
