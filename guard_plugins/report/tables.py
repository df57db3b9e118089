"""The tables of accuracies: every experiment, clean and under each attack at each radius."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from guard_plugins.artifacts.formatting import attack_name, percent, radius
from guard_plugins.artifacts.report import ModelReport, RobustAccuracy

Column = tuple[str, str, float]
"""Attack, norm and radius of a column; see also :data:`CLEAN`."""
CLEAN: Column = ("", "", 0.0)
DEFAULT_NORM = "Linf"
Labelled = Sequence[tuple[str, Mapping[str, ModelReport]]]
"""Experiments: label, and accuracies by kind of model."""


@dataclass(frozen=True)
class Cell:
    """One number, and whether it is the best of its column and kind of model."""

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


def tables(experiments: Labelled, kinds: Mapping[str, str], names: Mapping[str, str]) -> list[Table]:
    """Return the tables: one along the ε curve, then one for every radius several attacks were run at.

    Args:
        experiments: What to show.
        kinds: The kinds of models in the order to show them, with their headings.
        names: How the names of attacks are written.
    """
    entries = [entry for _, models in experiments for model in models.values() for entry in model.robust]
    found = []
    curve = curve_attack(entries)
    if curve is not None:
        radii = sorted({entry.eps for entry in entries if entry.attack == curve and entry.eps})
        columns = [CLEAN, *((curve, DEFAULT_NORM, eps) for eps in radii)]
        heads = ["clean", *(f"ε = {radius(eps)}" for eps in radii)]
        title = f"Accuracy under {attack_name(curve, names)} (L∞) along the ε curve"
        found.append(_table(title, columns, heads, experiments, kinds))
    for norm, eps, attacks in _levels(entries, curve):
        columns = [CLEAN, *((attack, norm, eps) for attack in attacks)]
        title = f"Accuracy at ε = {radius(eps, norm)} ({'L∞' if norm == DEFAULT_NORM else norm})"
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


def accuracy(model: ModelReport, column: Column) -> tuple[float, float | None] | None:
    """Return mean and sd of a column, or None if it was not measured."""
    if column == CLEAN:
        return model.clean, model.sd
    for entry in model.robust:
        if (entry.attack, entry.norm) == column[:2] and abs(entry.eps - column[2]) < 1e-9:
            return entry.accuracy, entry.sd
    return None


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
        best = [max((found[0] for found in column if found), default=None) for column in zip(*measured, strict=True)]
        rows = [
            Row(label, [_cell(found, top if len(models) > 1 else None) for found, top in zip(line, best, strict=True)])
            for (label, _), line in zip(models, measured, strict=True)
        ]
        if rows:
            sections.append(TableSection(heading, kind, rows))
    return Table(title, columns, heads, sections)


def _cell(found: tuple[float, float | None] | None, best: float | None) -> Cell:
    if found is None:
        return Cell("–", None)
    return Cell(percent(*found), found[0], best is not None and round(found[0], 3) >= round(best, 3))
