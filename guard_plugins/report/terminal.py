"""What the commands print of finished runs: a run's accuracies, and what a comparison of several came to."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from guard_plugins.artifacts.formatting import attack_name, percent, radius
from guard_plugins.artifacts.report import Report
from guard_plugins.report.comparison import KINDS as HEADINGS
from guard_plugins.report.comparison import Comparison, shown_kinds
from guard_plugins.report.gate import verdicts
from guard_plugins.report.markdown import KINDS, grid
from guard_plugins.report.summary import findings, lead
from guard_plugins.report.tables import Table as Accuracies
from guard_plugins.report.tables import tables

_LABEL: Final = 9
"""Columns that names have at least."""


def summary(report: Report, *, width: int, names: dict[str, str]) -> str:
    """Return the accuracies of a run's models as a table, in percent; the columns are those of the student.

    Args:
        report: The results.
        width: Columns of the terminal.
        names: How attacks are written.
    """
    student = report.models.student
    columns = list(dict.fromkeys((e.attack, e.norm, e.eps) for e in student.robust if e.eps > 0))
    attacks = list(dict.fromkeys(attack for attack, _, _ in columns))
    only = attack_name(attacks[0], names) if len(attacks) == 1 else ""
    under = f" under {only}" if only else " under attack"
    title = f"Accuracy in percent, clean and{under} at radius ε"
    names_of = ["" if only else f"{attack_name(attack, names)} " for attack, _, _ in columns]
    radii = [radius(eps, norm) for _, norm, eps in columns]
    table = _empty(title, "model", ["clean", *map("".join, zip(names_of, radii, strict=True))])
    for kind, label in KINDS.items():
        model = getattr(report.models, kind)
        if model is not None and kind in shown_kinds([report]):
            known = {(e.attack, e.norm, e.eps): percent(e.accuracy, e.sd) for e in model.robust}
            table.add_row(label, percent(model.clean, model.sd), *(known.get(column, "") for column in columns))
    return _drawn(table, width=width)


def _empty(title: str, first: str, heads: Sequence[str], *, tight: bool = False) -> Table:
    """Return a table without rows: a column of names, and one of numbers for each of ``heads``.

    Args:
        title: What stands above it.
        first: Heading of the names.
        heads: Headings of the numbers.
        tight: Whether one space lies between columns, not two.
    """
    table = Table(
        title=Text(title),
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=tight,
    )
    table.add_column(first, overflow="fold")  # no digit may be cut off
    for head in heads:
        table.add_column(head, justify="right", overflow="fold")
    return table


def _drawn(shown: Table | Text, *, width: int) -> str:
    """Return a table or a text as lines of at most ``width`` characters."""
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(shown)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()).strip("\n")


def outcome(comparison: Comparison, *, width: int | None) -> str:
    """Return the first sentences of the page, and the students' rows of its first table.

    Args:
        comparison: The runs.
        width: Columns of the terminal; None gives Markdown.
    """
    told = [lead(comparison, verdicts(comparison)), *(f"* {finding}" for finding in findings(comparison))]
    kinds = {"student": HEADINGS["student"]}
    shown = tables(comparison.experiments, kinds, comparison.attack_names, comparison.dataset)[:1]
    if width is None:
        return "\n\n".join([*told, *map(_markdown, shown)])
    texts = [_drawn(Text(sentence), width=width) for sentence in told]
    return "\n\n".join([*texts, *(_terminal(table, width) for table in shown)])


def _markdown(table: Accuracies) -> str:
    rows = [[label, *(f"**{text}**" if best else text for text, best in cells)] for label, cells in _rows(table)]
    return f"{table.title}\n\n{grid(['students of', *table.heads], rows)}"


def _terminal(table: Accuracies, width: int) -> str:
    heads = [head.removeprefix("ε = ") for head in table.heads]
    rows = [(label, [text.replace(" ± ", "±") for text, _ in cells]) for label, cells in _rows(table)]
    title, columns = table.title, list(zip(heads, *(cells for _, cells in rows), strict=True))
    if _LABEL + sum(max(map(len, column)) + 1 for column in columns) > width:  # rather no sd than half of one
        title += "; means" if any("±" in text for _, cells in rows for text in cells) else ""
        rows = [(label, [text.partition("±")[0] for text in cells]) for label, cells in rows]
    shown = _empty(title, "students of", heads, tight=True)
    for label, cells in rows:
        shown.add_row(Text(label), *cells)
    return _drawn(shown, width=width)


def _rows(table: Accuracies) -> Iterator[tuple[str, list[tuple[str, bool]]]]:
    for section in table.sections:
        for row in section.rows:
            yield row.label, [(cell.text, cell.best) for cell in row.cells]
