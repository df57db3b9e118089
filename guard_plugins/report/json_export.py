"""A comparison as JSON and as Markdown, with the numbers of the HTML page."""

from __future__ import annotations

import json
from typing import Any

from guard_plugins.report import summary
from guard_plugins.report.comparison import Comparison, Experiment
from guard_plugins.report.gate import sentence, verdicts
from guard_plugins.report.markdown import grid
from guard_plugins.report.provenance import command, notes, provenance
from guard_plugins.report.scores import Scores, scores
from guard_plugins.report.tables import Table, tables


def as_json(comparison: Comparison, *, page: str) -> str:
    """Return all numbers of a comparison, and the name of its page."""
    content = {
        "page": page,
        "entries": [_entry(entry) for entry in comparison.entries],
        "metrics": [_scores(one) for one in scores(comparison)],
        "gate": [
            {"label": found.label, "kind": found.kind, "items": [item.model_dump() for item in found.items]}
            for found in verdicts(comparison)
        ],
        "findings": summary.findings(comparison),
        "notes": notes(comparison),
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def as_markdown(comparison: Comparison) -> str:
    """Return title, findings, tables, gate, metrics, cost and commands."""
    metrics, cost = summary.metrics(comparison), summary.cost(comparison)
    accuracies = tables(comparison.experiments, comparison.kinds, comparison.attack_names, comparison.dataset)
    parts = [
        f"# {summary.title(comparison)}",
        summary.lead(comparison, verdicts(comparison)),
        summary.subtitle(comparison),
        "\n".join(f"* {finding}" for finding in summary.findings(comparison)),
        *(f"**{table.title}**\n\n{_accuracies(table)}" for table in accuracies),
        *notes(comparison),
        _gate(comparison),
        f"## Metrics\n\n{grid(['student', *metrics.heads], [[label, *cells] for label, cells in metrics.rows])}",
        "\n".join(f"* {line}." for line in metrics.basis),
        f"## Cost\n\n{grid(['run', *cost.stages, 'total'], [[label, *cells] for label, cells in cost.rows])}",
        _commands(comparison),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _entry(entry: Experiment) -> dict[str, Any]:
    report = entry.report
    return {
        "label": entry.label, "method": report.method, "dataset": report.dataset, "ipc": report.ipc,
        "protocol": report.protocol, "training": report.training, "guard": report.guard,
        "models": {kind: model.model_dump() for kind, model in entry.models.items()},
        "curvature": {kind: found.model_dump() for kind, found in report.curvature.items()},
        "seconds": report.seconds,
        "runs": [
            {"folder": run.path.name, "seed": run.report.seed, "command": command(run),
             "versions": run.manifest.get("versions")}
            for run in entry.runs
        ],
    }  # fmt: skip


def _scores(one: Scores) -> dict[str, Any]:
    parts = {"drops": [drop.model_dump() for drop in one.drops], "ratios": [it.model_dump() for it in one.ratios]}
    return {**vars(one), **parts}


def _accuracies(table: Table) -> str:
    rows = []
    for section in table.sections:
        rows += [
            [f"{row.label}: {section.heading.lower()}", *(f"**{c.text}**" if c.best else c.text for c in row.cells)]
            for row in section.rows
        ]
    return grid(["model", *table.heads], rows)


def _commands(comparison: Comparison) -> str:
    """Return every command once, with the runs that it made."""
    made: dict[str, list[str]] = {}
    for one in provenance(comparison):
        made.setdefault(one.command, []).append(one.label)
    return "## Commands\n\n" + "\n\n".join(f"{'; '.join(labels)}:\n\n    {text}" for text, labels in made.items())


def _gate(comparison: Comparison) -> str:
    lines = []
    for found in verdicts(comparison):
        lines.append(f"* {found.label} ({found.kind.lower()}): {found.tally}")
        for item in (*found.of("failed"), *found.of("warning")):
            lines.append(f"  * **{item.verdict}** {item.title}: {item.figure}. {sentence(item.suggests)}")
    return "## Release gate\n\n" + "\n".join(lines) if lines else ""
