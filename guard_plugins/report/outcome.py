"""What the commands print of a comparison: who leads, and the students' accuracies."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from guard_plugins.report.comparison import KINDS, Comparison
from guard_plugins.report.gate import verdicts
from guard_plugins.report.markdown import grid
from guard_plugins.report.summary import findings, lead
from guard_plugins.report.tables import Table, tables
from guard_plugins.report.terminal import drawn, empty_table


def outcome(comparison: Comparison, *, width: int | None) -> str:
    """Return the first sentences of the page, and the students' rows of its first table.

    Args:
        comparison: The runs.
        width: Columns of the terminal; None gives Markdown.
    """
    told = [lead(comparison, verdicts(comparison)), *(f"* {finding}" for finding in findings(comparison))]
    shown = tables(comparison.experiments, {"student": KINDS["student"]}, comparison.attack_names)[:1]
    if width is None:
        return "\n\n".join([*told, *map(_markdown, shown)])
    texts = [drawn(Text(sentence), width=width) for sentence in told]
    return "\n\n".join([*texts, *(_terminal(table, width) for table in shown)])


def _markdown(table: Table) -> str:
    rows = [[label, *(f"**{text}**" if best else text for text, best in cells)] for label, cells in _rows(table)]
    return f"{table.title}\n\n{grid(['students of', *table.heads], rows)}"


def _terminal(table: Table, width: int) -> str:
    # Without spaces and signs, seven columns of mean and sd fit a terminal of 80.
    shown = empty_table(table.title, "students of", [head.removeprefix("ε = ") for head in table.heads], tight=True)
    for label, cells in _rows(table):
        shown.add_row(label, *(text.replace(" ± ", "±") for text, _ in cells))
    return drawn(shown, width=width)


def _rows(table: Table) -> Iterator[tuple[str, list[tuple[str, bool]]]]:
    for section in table.sections:
        for row in section.rows:
            yield row.label, [(cell.text, cell.best) for cell in row.cells]
