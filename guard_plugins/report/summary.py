"""Title, findings, and the tables of metrics and cost of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from guard_plugins.artifacts.formatting import attack_name, change, counted, duration, numbers, percent, radius, tested
from guard_plugins.artifacts.report import ModelReport
from guard_plugins.report.comparison import Comparison, Experiment, baseline_of
from guard_plugins.report.gate import Verdicts, of_chance
from guard_plugins.report.markdown import HARD, NOT_CHECKED
from guard_plugins.report.plots import bars
from guard_plugins.report.scores import common_column, half_broken, scores
from guard_plugins.report.tables import CLEAN, Column, Measured, accuracy, curve_attack, noise, unattacked

THREAT_MODEL: Final = (
    "An image counts if the model is right before and after the attack. The attacker knows the model, wants any wrong "
    "class, and may change every pixel by ε at most; ε = 8/255 is 8 of the 255 steps from black to white (L∞, unless a "
    "table names another norm)."
)
ANY_LABELS: Final = "the labels that the method gives"
LEARNED: Final = {
    "soft": "the teacher's soft labels", "mean": "the mean of the teachers' soft labels",
    "own": "the soft labels that the method returned with them", "hard": "one class per image (hard labels)",
}  # fmt: skip
"""What students learned from, by :attr:`Report.learned_from`."""
MEANINGS: Final = {
    "HLR": "clean accuracy of a plainly trained teacher minus that of the student with hard labels; lower is better.",
    "IOR": "clean accuracy of the student minus that of a student of random real images; higher is better.",
    "LRS": "HLR and IOR in one number; higher is better.",
    "ARS": "IOR with and without augmentation of the students in one number; higher is better.",
    "drop": "share of the clean accuracy that the attack takes; lower is better.",
    "RR": "robustness under all attacks at this ε, relative to the clean accuracy (DD-RobustBench); higher is better.",
    "I-RR": "the same with the clean accuracy counted in; higher is better.",
}
"""What the metrics say, by the first word of their headings."""


@dataclass(frozen=True)
class MetricsTable:
    """The table of metrics: headings, a row of texts per experiment, and which experiments they were compared with."""

    heads: Sequence[str]
    rows: Sequence[tuple[str, Sequence[str]]]
    basis: Sequence[str]

    @property
    def meanings(self) -> list[tuple[str, str]]:
        """The metrics in the table, each with what it says."""
        present = {head.split()[0] for head in self.heads}
        return [(name, meaning) for name, meaning in MEANINGS.items() if name in present]


@dataclass(frozen=True)
class CostTable:
    """Time per stage: names of the stages, a row of texts per experiment, and the seconds themselves."""

    stages: Sequence[str]
    rows: Sequence[tuple[str, Sequence[str]]]
    seconds: Sequence[tuple[str, Mapping[str, float]]]

    def drawn(self) -> str | None:
        """Return a plot of the seconds, which only the page has; None without stages."""
        return bars([(label, list(parts.items())) for label, parts in self.seconds]) if self.stages else None


def title(comparison: Comparison) -> str:
    """Return the title of the report."""
    reports = [entry.report for entry in comparison.entries]
    if len(reports) == 1:
        return f"{reports[0].method} on {reports[0].dataset}, {counted(reports[0].ipc, 'image')} per class"
    return f"{len(reports)} experiments on {', '.join(dict.fromkeys(report.dataset for report in reports))}"


def subtitle(comparison: Comparison) -> str:
    """Return the settings in a line."""
    reports = [entry.report for entry in comparison.entries]
    runs = sum(len(entry.runs) for entry in comparison.entries)
    ipc = sorted({report.ipc for report in reports})
    per_class = counted(ipc[0], "image") if len(ipc) == 1 else f"{', '.join(map(str, ipc))} images"
    protocols = ", ".join(sorted({report.protocol for report in reports}))
    images = sorted({found.images for report in reports for found in report.models.student.robust})
    seeds = sorted({run.report.seed for entry in comparison.entries for run in entry.runs})
    attacked = f" on {' or '.join(map(str, images))} {tested(comparison.dataset)}" if images else ""
    hooks = dict.fromkeys(_hook(entry) for entry in comparison.entries if entry.report.guard)
    return (
        f"{counted(runs, 'run')}; {per_class} per class; seed{'s' if len(seeds) > 1 else ''} {numbers(seeds)}; "
        f"protocol {protocols}{attacked}. {' '.join(hooks)}"
    )


def lead(comparison: Comparison, gate: Sequence[Verdicts]) -> str:
    """Return what came out, in two sentences: the students' accuracies, and whether the gate trusts them.

    Args:
        comparison: The runs.
        gate: The findings of the release gate on them.
    """
    found = _one(comparison.entries[0], comparison) if len(comparison.entries) == 1 else _several(comparison)
    failed = sum(bool(verdict.of("failed")) for verdict in gate)
    if not gate:
        checked = NOT_CHECKED
    elif failed:
        checked = f"The release gate failed on {failed} of {counted(len(gate), 'model')}, so do not quote them yet."
    else:
        checked = "The release gate, which checks whether attacks were strong enough, found no failure."
    return " ".join([found, *of_chance(gate, several=len(comparison.entries) > 1), checked])


def findings(comparison: Comparison) -> list[str]:
    """Return what the hook, or another robust objective, gained and cost the students, in a sentence per experiment."""
    found = []
    for entry in comparison.entries:
        baseline = baseline_of(entry, "student", comparison)
        if baseline is not None:
            found.append(_gain(entry, baseline, comparison.attack_names))
    return [text for text in found if text]


def explained(comparison: Comparison) -> list[str]:
    """Return what each kind of model learned from."""
    reports = [entry.report for entry in comparison.entries]
    learned = {report.learned_from for report in reports}
    labels = LEARNED.get(next(iter(learned)) or "", ANY_LABELS) if len(learned) == 1 else ANY_LABELS
    told = {"student": f"Student: trained on the distilled images with {labels}.",
            "teacher": "Teacher: trained on the training images themselves.",
            "student_hard": f"{HARD} It shows what the images teach on their own."}  # fmt: skip
    shown = [kind for kind in comparison.kinds if any(kind in entry.models for entry in comparison.entries)]
    return [told[kind] for kind in shown]


def metrics(comparison: Comparison) -> MetricsTable:
    """Return the table of metrics."""
    found = scores(comparison)
    shown = {curve_attack(entry.models["student"].robust) for entry in comparison.entries} | {"autoattack"}
    every = list(dict.fromkeys((drop.attack, drop.norm, drop.eps) for one in found for drop in one.drops))
    drops = [key for key in every if key[0] in shown] or every
    ratios = sorted({ratio.eps for one in found for ratio in one.ratios})
    named = {name: [getattr(one, name.lower()) for one in found] for name in ("HLR", "IOR", "LRS", "ARS")}
    heads = [name for name, values in named.items() if any(value is not None for value in values)]
    heads += [f"drop {radius(eps, norm)} {attack_name(attack, comparison.attack_names)}" for attack, norm, eps in drops]
    heads += [f"{name} {radius(eps)}" for eps in ratios for name in ("RR", "I-RR")]
    rows = []
    for number, one in enumerate(found):
        dropped = {(drop.attack, drop.norm, drop.eps): drop.value for drop in one.drops}
        ratio = {known.eps: (known.rr, known.irr) for known in one.ratios}
        values = [*(named[name][number] for name in heads if name in named), *(dropped.get(key) for key in drops)]
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
    return CostTable(stages, rows, known)


def _one(entry: Experiment, comparison: Comparison) -> str:
    student = entry.models["student"]
    column = half_broken(student)
    under = accuracy(student, column) if column else None
    attacked = ""
    if column is not None and under is not None:
        attacked = f", and on {under.text} % when attacked by {_attack(column, comparison.attack_names)}"
    return (
        f"Trained on {counted(entry.report.ipc, 'distilled image')} per class, students are right on "
        f"{percent(student.clean, student.sd)} % of {_images(student, entry.report.dataset)}{attacked}."
    )


def _several(comparison: Comparison) -> str:
    """Return whose students are right most often, at a radius at which all were attacked."""
    column = common_column([entry.models["student"] for entry in comparison.entries])
    measured = [(entry, accuracy(entry.models["student"], column)) for entry in comparison.entries]
    known = sorted(((entry, found) for entry, found in measured if found), key=lambda pair: -pair[1].mean)
    best, top = known[0]
    student = best.models["student"]
    images = min((one.images for one in student.robust), default=1)
    near = sum(top.mean - found.mean <= noise(top, found, images) for _, found in known[1:])
    others = len(known) - 1
    over = "every other" if near == others else f"{near} of {others} others"
    several = all(len(entry.runs) > 1 for entry, _ in known)
    beyond = "noise does not explain this lead" if several else "other test images keep this lead, other seeds may not"
    told = f"this lead over {over} may be noise" if near else beyond
    attacked = any(entry.models["student"].robust for entry in comparison.entries)
    without = "No attack was made on all of them at one ε. Without attack" if attacked else "Without attack"
    under = f"Attacked by {_attack(column, comparison.attack_names)}" if column != CLEAN else without
    return (
        f"{under}, students of {best.label!r} are right most often, on {top.text} % of "
        f"{_images(student, best.report.dataset)}"
        f"{f'; {told}' if others else ''}."
    )


def _images(model: ModelReport, dataset: str) -> str:
    return f"{model.robust[0].images:,} {tested(dataset)}" if model.robust else f"the {tested(dataset)}"


def _attack(column: Column, names: Mapping[str, str]) -> str:
    return f"{attack_name(column[0], names)} at ε = {radius(column[2], column[1])}"


def _gain(entry: Experiment, baseline: Experiment, names: Mapping[str, str]) -> str:
    """Return a sentence that compares an experiment with its baseline, at the radius that breaks half of the latter."""
    ours, theirs = entry.models["student"], baseline.models["student"]
    column = half_broken(theirs)
    after = accuracy(ours, column) if column else None
    before = accuracy(theirs, column) if column else None
    if column is None or after is None or before is None:
        return ""
    images = min(one.images for one in (*ours.robust, *theirs.robust))
    clean = _against(unattacked(ours), unattacked(theirs), images)
    return (
        f"{entry.label}, against {baseline.label!r}: {_against(after, before, images)} under "
        f"{_attack(column, names)}; {clean} without attack."
    )


def _against(ours: Measured, theirs: Measured, images: int) -> str:
    within = abs(ours.mean - theirs.mean) <= noise(ours, theirs, images)
    gained = f"{change(ours.mean - theirs.mean)} points{', within noise' if within else ''}"
    return f"{ours.text} % in place of {theirs.text} % ({gained})"


def _hook(entry: Experiment) -> str:
    guard = entry.report.guard or {}
    length = f"h_rms = {guard['h_rms'] * 255:.3g}/255" if guard.get("h_rms") else f"h = {guard.get('h')}"
    every = f", every {guard['every']} steps" if guard.get("every", 1) != 1 else ""
    return f"Hook: {length}, weight {guard.get('weight')}, {guard.get('penalty')} penalty{every}."
