"""The tables of accuracies: every experiment, clean and under each attack at each radius."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from guard_plugins.artifacts.formatting import attack_name, counted, percent, radius, tested
from guard_plugins.artifacts.report import ModelReport, Report, RobustAccuracy
from guard_plugins.report.comparison import Comparison

Column = tuple[str, str, float]
"""Attack, norm and radius of a column; see also :data:`CLEAN`."""
CLEAN: Column = ("", "", 0.0)
DEFAULT_NORM = "Linf"
Labelled = Sequence[tuple[str, Mapping[str, ModelReport]]]
"""Experiments: label, and accuracies by kind of model."""


@dataclass(frozen=True)
class Cell:
    """One number, and whether it is among the best of its column and kind of model.

    Among the best are all that noise may separate from the highest; none is where that are all of them.
    """

    text: str
    value: float | None
    best: bool = False


@dataclass(frozen=True)
class Row:
    """One experiment's numbers."""

    label: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class TableSection:
    """The rows of one kind of model."""

    heading: str
    kind: str
    rows: Sequence[Row]


@dataclass(frozen=True)
class Table:
    """One table of accuracies.

    Attributes:
        title: What it shows.
        columns: The attacks and radii of the columns.
        heads: Headings of the columns.
        sections: Rows by kind of model.
    """

    title: str
    columns: Sequence[Column]
    heads: Sequence[str]
    sections: Sequence[TableSection]


def tables(experiments: Labelled, kinds: Mapping[str, str], names: Mapping[str, str], data: str = "") -> list[Table]:
    """Return the tables: one along the ε curve, then one for every radius several attacks were run at.

    Args:
        experiments: What to show.
        kinds: The kinds of models in the order to show them, with their headings.
        names: How the names of attacks are written.
        data: The data set, which says what images were attacked.
    """
    entries = [entry for _, models in experiments for model in models.values() for entry in model.robust]
    found = []
    curve = curve_attack(entries)
    if curve is not None:
        radii = sorted({entry.eps for entry in entries if entry.attack == curve and entry.eps})
        columns = [CLEAN, *((curve, DEFAULT_NORM, eps) for eps in radii)]
        heads = ["clean", *(f"ε = {radius(eps)}" for eps in radii)]
        title = f"Right, in percent of {_counts(entries, data)}, under {attack_name(curve, names)} (L∞) at growing ε"
        found.append(_table(title, columns, heads, experiments, kinds))
    for norm, eps, attacks in _levels(entries, curve):
        columns = [CLEAN, *((attack, norm, eps) for attack in attacks)]
        norm_name = "L∞" if norm == DEFAULT_NORM else norm
        title = f"Right, in percent of {_counts(entries, data)}, at ε = {radius(eps, norm)} ({norm_name})"
        found.append(
            _table(title, columns, ["clean", *(attack_name(attack, names) for attack in attacks)], experiments, kinds)
        )
    return found


def curve_attack(entries: Sequence[RobustAccuracy]) -> str | None:
    """Return the attack measured at the most L-infinity radii, the first of several; None if all have one radius."""
    radii: dict[str, set[float]] = {}
    for entry in entries:
        if entry.norm == DEFAULT_NORM and entry.eps:
            radii.setdefault(entry.attack, set()).add(entry.eps)
    most = max(radii, key=lambda attack: len(radii[attack]), default=None)
    return most if most is not None and len(radii[most]) > 1 else None


class Measured(NamedTuple):
    """A share of the test images: mean and sd (None for one) over so many ``runs`` (or students of one)."""

    mean: float
    sd: float | None = None
    runs: int = 1

    @property
    def text(self) -> str:
        """In percent."""
        return percent(self.mean, self.sd)


def unattacked(model: ModelReport) -> Measured:
    """Return a model's clean accuracy."""
    return Measured(model.clean, model.sd, model.models)


def accuracy(model: ModelReport, column: Column) -> Measured | None:
    """Return what was measured in a column, or None."""
    if column == CLEAN:
        return unattacked(model)
    for entry in model.robust:
        if (entry.attack, entry.norm) == column[:2] and abs(entry.eps - column[2]) < 1e-9:
            return Measured(entry.accuracy, entry.sd, model.models)
    return None


def _counts(entries: Sequence[RobustAccuracy], dataset: str) -> str:
    counts = sorted({entry.images for entry in entries})
    return f"{' or '.join(f'{count:,}' for count in counts)} {tested(dataset)}"


def _levels(entries: Sequence[RobustAccuracy], curve: str | None) -> Iterator[tuple[str, float, list[str]]]:
    """Yield norm, radius and attacks for every radius that has more attacks than that of the curve."""
    levels: dict[tuple[str, float], dict[str, None]] = {}
    for entry in entries:
        if entry.eps:
            levels.setdefault((entry.norm, entry.eps), {})[entry.attack] = None
    for (norm, eps), attacks in sorted(levels.items(), key=lambda level: (level[0][0] != DEFAULT_NORM, level[0][1])):
        if list(attacks) != [curve]:
            yield norm, eps, list(attacks)


def _table(
    title: str, columns: Sequence[Column], heads: Sequence[str], experiments: Labelled, kinds: Mapping[str, str]
) -> Table:
    sections = []
    for kind, heading in kinds.items():
        models = [(label, known[kind]) for label, known in experiments if kind in known]
        measured = [[accuracy(model, column) for column in columns] for _, model in models]
        images = min((entry.images for _, model in models for entry in model.robust), default=1)
        best = [_best(column, images) for column in zip(*measured, strict=True)]
        rows = [
            Row(label, [_cell(found, best[n][number]) for n, found in enumerate(line)])
            for number, ((label, _), line) in enumerate(zip(models, measured, strict=True))
        ]
        if rows:
            sections.append(TableSection(heading, kind, rows))
    return Table(title, columns, heads, sections)


def _best(column: Sequence[Measured | None], images: int) -> list[bool]:
    """Return which cells noise alone may separate from the highest; none if that holds for all of them.

    One that only a large sd of its own brings so near, below others that are clearly behind, is not among them.
    """
    top = max((found for found in column if found), key=lambda found: found.mean, default=None)
    near = [
        top is not None and found is not None and top.mean - found.mean <= noise(top, found, images) for found in column
    ]
    behind = [found.mean for found, close in zip(column, near, strict=True) if found and not close]
    if not behind:
        return [False] * len(near)
    least = max(behind)
    return [close and found is not None and found.mean > least for found, close in zip(column, near, strict=True)]


def noise(one: Measured, other: Measured, images: int) -> float:
    """Return the largest difference of two shares that noise explains with 95 % confidence.

    It is that of drawing the test images (normal), or of the seeds where an sd is known (Student's t with the pooled
    deviation), whichever is larger.

    Args:
        one: A share.
        other: The other.
        images: Number of test images.
    """
    drawn = 1.96 * math.sqrt(sum(share * (1 - share) / images for share in (one.mean, other.mean)))
    return max(drawn, _of_seeds(one, other))


def _of_seeds(one: Measured, other: Measured) -> float:
    known = [(found.sd, found.runs - 1) for found in (one, other) if found.sd is not None and found.runs > 1]
    free = sum(count for _, count in known)
    if not free:
        return 0.0
    from scipy.special import stdtrit  # only where there are several seeds

    pooled = sum(sd**2 * count for sd, count in known) / free
    return float(stdtrit(free, 0.975)) * math.sqrt(pooled * (1 / one.runs + 1 / other.runs))


def _cell(found: Measured | None, best: bool) -> Cell:
    return Cell("–", None) if found is None else Cell(found.text, found.mean, best)


@dataclass(frozen=True)
class Validations:
    """The students of an unfinished set: a sentence, and a row for each."""

    label: str
    sentence: str
    heads: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def validations(comparison: Comparison) -> list[Validations]:
    """Return what was found in the first run of every experiment that validated."""
    found = [of_report(entry.report, entry.label) for entry in comparison.entries]
    return [one for one in found if one is not None]


def of_report(report: Report, label: str = "") -> Validations | None:
    """Return what a run's validations found, in percent; None where there are none.

    Args:
        report: The run's report.
        label: What to call the run.
    """
    if not report.validation:
        return None
    seconds, first = sum(found.seconds for found in report.validation), report.validation[0]
    under = f"{first.attack} at {radius(first.eps, 'Linf')}"
    said = (
        f"While distilling: {counted(len(report.validation), 'student')}, each trained on the images of a loop so far "
        f"and attacked on {first.images} held-out training images. That took {seconds:.0f} s of the distillation."
    )
    rows = [
        (one.loop, f"{one.step} of {one.steps}", str(one.distilled), percent(one.clean), percent(one.robust))
        for one in report.validation
    ]
    return Validations(label, said, ("loop", "steps", "images", "clean", under), rows)
