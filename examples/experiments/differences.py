"""Every difference between an experiment's rows and the one they are compared with, as a table for programs."""

from __future__ import annotations

import csv
import io
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Final

from scipy import stats

from guard_plugins.artifacts.atomic import write_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from examples.experiments.results import Results

COLUMNS: Final = ("experiment", "row", "against", "model", "eps", "seeds", "difference", "low", "high")
RADII: Final = (0, 1, 2, 4, 8, 16)
KINDS: Final = ("student", "student_hard", "teacher")


def write_differences(path: Path, results: Results) -> None:
    """Write a line for every row, model and radius: points, over how many seeds, and the 95 % interval if several.

    Args:
        path: The CSV file.
        results: All records.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(_lines(results))
    write_text(path, text.getvalue())


def _lines(results: Results) -> Iterator[tuple[str, ...]]:
    for experiment in results.experiments.values():
        against = experiment.against
        for row in experiment.rows:
            for kind in KINDS if against is not None and row != against else ():
                for eps in RADII:
                    ours, theirs = (results.values(experiment.name, one, kind, eps) for one in (row, against or ""))
                    found = [ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())]
                    if found:
                        yield (experiment.name, row, against or "", kind, str(eps), *_spread(found))


def _spread(values: list[float]) -> tuple[str, ...]:
    mean = statistics.fmean(values)
    if len(values) == 1:
        return ("1", f"{mean:+.2f}", "", "")
    half = interval(values)
    return (str(len(values)), f"{mean:+.2f}", f"{mean - half:+.2f}", f"{mean + half:+.2f}")


def interval(values: list[float]) -> float:
    """Return half the width of the 95 % interval of a mean (Student's t)."""
    half: float = stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return half
