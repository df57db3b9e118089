"""The picture of the README, from the records: ``python -m examples.experiments.front``."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from examples.experiments.drawing import SETTINGS, save
from examples.experiments.record import Record
from guard_plugins.artifacts.report import ModelReport

HERE = Path(__file__).parent
PICTURE = HERE.parents[1] / "docs" / "images" / "robustness.svg"
ROWS = {"hook": "sre2l/hook-[0-9].json", "no hook": "sre2l/no-hook-[0-9].json"}
COLOURS = {"hook": "#0b6e4f", "no hook": "#c1440e"}


def students(raw: Path) -> dict[str, list[ModelReport]]:
    """Return the students of every row, one for each seed."""
    found: dict[str, list[ModelReport]] = {}
    for row, pattern in ROWS.items():
        known = [Record.model_validate_json(path.read_text(encoding="utf-8")) for path in sorted(raw.glob(pattern))]
        found[row] = [record.report.models.student for record in known if record.report is not None]
    return found


def draw(rows: Mapping[str, Sequence[ModelReport]], path: Path) -> None:
    """Draw mean and sd of the students' accuracy against ε.

    Args:
        rows: Students of every row, one for each seed.
        path: The SVG to write.
    """
    with mpl.rc_context({**SETTINGS, "font.size": 11}):
        figure = Figure(figsize=(6.4, 3.4), layout="constrained")
        axes = figure.subplots()
        for row, models in rows.items():
            radii = [0.0, *models[0].radii()]
            columns = [[100 * (model.at(eps) if eps else model.clean) for model in models] for eps in radii]
            means, spreads = [statistics.fmean(c) for c in columns], [statistics.stdev(c) for c in columns]
            x = range(len(radii))
            low, high = ([m + sign * s for m, s in zip(means, spreads, strict=True)] for sign in (-1, 1))
            axes.fill_between(x, low, high, color=COLOURS[row], alpha=0.18, linewidth=0)
            axes.plot(x, means, marker="o", markersize=4, color=COLOURS[row], label=row)
            axes.set_xticks(list(x), labels=["0", *(f"{255 * eps:g}" for eps in radii[1:])])
        axes.set(xlabel="attack radius ε · 255 (PGD-20)", ylabel="accuracy, %", ylim=(0, 50))
        axes.set_title("Students of 100 distilled CIFAR-10 images, mean ± sd over 5 seeds", fontsize=11)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
        save(figure, path)


if __name__ == "__main__":
    draw(students(HERE / "raw"), PICTURE)
