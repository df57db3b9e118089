"""Title, findings, and the tables of metrics and cost of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from guard_plugins.artifacts.formatting import attack_name, change, duration, percent, radius
from guard_plugins.artifacts.report import ModelReport
from guard_plugins.report.comparison import Comparison, Experiment, baseline_of
from guard_plugins.report.plots import bars
from guard_plugins.report.scores import scores
from guard_plugins.report.tables import accuracy, curve_attack

THREAT_MODEL: Final = (
    "Attacks are untargeted: the attacker knows the model, wants any wrong class, and changes every pixel in [0, 1] by "
    "at most ε (L∞, unless noted otherwise). Normalisation is part of the model."
)


@dataclass(frozen=True)
class MetricsTable:
    """The table of metrics: headings, a row of texts per experiment, and which experiments they were compared with."""

    heads: Sequence[str]
    rows: Sequence[tuple[str, Sequence[str]]]
    basis: Sequence[str]


@dataclass(frozen=True)
class CostTable:
    """Time per stage: names of the stages, a row of texts per experiment, and a plot."""

    stages: Sequence[str]
    rows: Sequence[tuple[str, Sequence[str]]]
    bars: str | None


def title(comparison: Comparison) -> str:
    """Return the title of the report."""
    reports = [entry.report for entry in comparison.entries]
    if len(reports) == 1:
        return f"{reports[0].method} on {reports[0].dataset}, {reports[0].ipc} images per class"
    return f"{len(reports)} experiments on {', '.join(dict.fromkeys(report.dataset for report in reports))}"


def subtitle(comparison: Comparison) -> str:
    """Return the settings in a line."""
    reports = [entry.report for entry in comparison.entries]
    runs = sum(len(entry.runs) for entry in comparison.entries)
    ipc = ", ".join(map(str, sorted({report.ipc for report in reports})))
    protocols = ", ".join(sorted({report.protocol for report in reports}))
    counted = sorted({found.images for report in reports for found in report.models.student.robust})
    seeds = ", ".join(map(str, sorted({run.report.seed for entry in comparison.entries for run in entry.runs})))
    images = f" on {' or '.join(map(str, counted))} test images" if counted else ""
    hooks = dict.fromkeys(_hook(entry) for entry in comparison.entries if entry.report.guard)
    return (
        f"{runs} run{'s' if runs > 1 else ''}; {ipc} images per class; seed{'s' if ',' in seeds else ''} {seeds}; "
        f"protocol {protocols}{images}. {' '.join(hooks)}"
    )


def lead(comparison: Comparison) -> str:
    """Return what came out of a single run, in two sentences; empty for several, which have findings."""
    if len(comparison.entries) != 1:
        return ""
    entry = comparison.entries[0]
    student = entry.models["student"]
    column = half_broken(student)
    under = accuracy(student, column) if column else None
    attacked = ""
    if column is not None and under is not None:
        attacked = (
            f", and {percent(*under)} % under {attack_name(column[0], comparison.attack_names)} at ε = "
            f"{radius(column[2], column[1])}"
        )
    images = student.robust[0].images if student.robust else None
    counted = f" of {images:,} test images" if images else " of the test images"
    failed = sum(item.verdict == "failed" for items in entry.report.gate.values() for item in items)
    asked = any(entry.report.gate.values())
    checks = f"{failed} of its checks failed" if failed else "no check of the release gate failed"
    return (
        f"Students of {entry.report.ipc} images per class are right on {percent(student.clean, student.sd)} %{counted}"
        f"{attacked}. {checks[:1].upper() + checks[1:] if asked else 'The release gate was not run'}."
    )


def findings(comparison: Comparison) -> list[str]:
    """Return what the hook, or another robust objective, gained and cost the students, in a sentence per experiment."""
    found = []
    for entry in comparison.entries:
        baseline = baseline_of(entry, "student", comparison)
        if baseline is not None:
            found.append(_gain(entry, baseline, comparison.attack_names))
    return [text for text in found if text]


def notes(comparison: Comparison) -> list[str]:
    """Return the notes of the protocols on their numbers."""
    return list(dict.fromkeys(note for entry in comparison.entries for note in entry.report.notes))


def metrics(comparison: Comparison) -> MetricsTable:
    """Return the table of metrics."""
    found = scores(comparison)
    shown = {curve_attack(entry.models["student"].robust) for entry in comparison.entries} | {"autoattack"}
    every = list(dict.fromkeys((drop.attack, drop.norm, drop.eps) for one in found for drop in one.drops))
    drops = [key for key in every if key[0] in shown] or every
    ratios = sorted({ratio.eps for one in found for ratio in one.ratios})
    heads = ["HLR", "IOR", "LRS", "ARS"]
    heads += [f"drop {radius(eps, norm)} {attack_name(attack, comparison.attack_names)}" for attack, norm, eps in drops]
    heads += [f"{name} {radius(eps)}" for eps in ratios for name in ("RR", "I-RR")]
    rows = []
    for one in found:
        dropped = {(drop.attack, drop.norm, drop.eps): drop.value for drop in one.drops}
        ratio = {known.eps: (known.rr, known.irr) for known in one.ratios}
        values = [one.hlr, one.ior, one.lrs, one.ars, *(dropped.get(key) for key in drops)]
        values += [value for eps in ratios for value in ratio.get(eps, (None, None))]
        rows.append((one.label, [percent(value) for value in values]))
    basis = list(dict.fromkeys(one.basis if len(found) == 1 else f"{one.label}: {one.basis}" for one in found))
    return MetricsTable(heads, rows, basis)


def cost(comparison: Comparison) -> CostTable:
    """Return the time per stage of every experiment's first run."""
    known = [(entry.label, entry.report.seconds) for entry in comparison.entries]
    stages = list(dict.fromkeys(stage for _, seconds in known for stage in seconds))
    rows = [
        (
            label,
            [
                *(duration(seconds[stage]) if stage in seconds else "–" for stage in stages),
                duration(sum(seconds.values())),
            ],
        )
        for label, seconds in known
    ]
    return CostTable(
        stages, rows, bars([(label, list(seconds.items())) for label, seconds in known]) if stages else None
    )


def half_broken(model: ModelReport) -> tuple[str, str, float] | None:
    """Return the attack, norm and radius at which a model's accuracy is nearest to half of its clean accuracy."""
    curve = curve_attack(model.robust)
    known = [entry for entry in model.robust if entry.eps and curve in (None, entry.attack)]
    nearest = min(known, key=lambda entry: abs(entry.accuracy - model.clean / 2), default=None)
    return None if nearest is None else (nearest.attack, nearest.norm, nearest.eps)


def _gain(entry: Experiment, baseline: Experiment, names: Mapping[str, str]) -> str:
    """Return a sentence that compares an experiment with its baseline, at the radius that breaks half of the latter."""
    ours, theirs = entry.models["student"], baseline.models["student"]
    column = half_broken(theirs)
    after = accuracy(ours, column) if column else None
    before = accuracy(theirs, column) if column else None
    if column is None or after is None or before is None:
        return ""
    cost = f"clean {percent(ours.clean, ours.sd)} %, {change(ours.clean - theirs.clean)} points"
    return (
        f"{entry.label}: students keep {percent(*after)} % under {attack_name(column[0], names)} at ε = "
        f"{radius(column[2], column[1])}, {change(after[0] - before[0])} points against {baseline.label!r} "
        f"({percent(*before)} %); {cost}."
    )


def _hook(entry: Experiment) -> str:
    guard = entry.report.guard or {}
    length = f"h_rms = {guard['h_rms'] * 255:.3g}/255" if guard.get("h_rms") else f"h = {guard.get('h')}"
    every = f", every {guard['every']} steps" if guard.get("every", 1) != 1 else ""
    return f"Hook: {length}, weight {guard.get('weight')}, {guard.get('penalty')} penalty{every}."
