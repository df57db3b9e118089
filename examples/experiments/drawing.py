"""The figures of RESULTS.md, as SVG without date or random ids, so that the same records give the same file."""

from __future__ import annotations

import io
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from examples.experiments.record import Landscape
from guard_plugins.artifacts.atomic import write_text
from guard_plugins.artifacts.report import ModelReport

SETTINGS: Any = {"svg.hashsalt": "guard-plugins", "svg.fonttype": "none", "font.size": 9}


def curves(path: Path, title: str, rows: Mapping[str, Sequence[ModelReport | None]]) -> None:
    """Draw accuracy against ε for every row, the mean over seeds.

    Args:
        path: The SVG to write.
        title: Heading.
        rows: Students of every row, one per seed.
    """
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(6, 3.6), layout="constrained")
        axes = figure.subplots()
        for row, models in rows.items():
            known = [model for model in models if model is not None]
            radii = [0.0, *known[0].radii()]
            means = [statistics.fmean(model.at(eps) if eps else model.clean for model in known) for eps in radii]
            axes.plot([255 * eps for eps in radii], [100 * mean for mean in means], marker="o", markersize=3, label=row)
        axes.set(
            title=title, xlabel="ε · 255 (L∞)", ylabel="accuracy of the students, %", xlim=(-0.2, 34), ylim=(0, None)
        )
        axes.set_xscale("symlog", linthresh=1, base=2)
        axes.set_xticks([0, 1, 2, 4, 8, 16, 32], labels=["0", "1", "2", "4", "8", "16", "32"])
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=8)
        save(figure, path)


def accuracy_against_cost(path: Path, points: Mapping[str, tuple[float, float]]) -> None:
    """Draw one point per row: the students' accuracy at ε = 1/255 against the cost of the teacher.

    Args:
        path: The SVG to write.
        points: By row, multiple of a plain teacher's step and accuracy in percent.
    """
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(6, 3.2), layout="constrained")
        axes = figure.subplots()
        for row, (ratio, accuracy) in points.items():
            axes.plot([ratio], [accuracy], marker="o", linestyle="", label=row)
        axes.set(xlabel="time of the teacher, plain = 1", ylabel="students at ε = 1/255, %", xlim=(0.8, 20))
        axes.set_xscale("log", base=2)
        axes.set_xticks([1, 2, 4, 8, 16], labels=["1", "2", "4", "8", "16"])
        axes.margins(y=0.2)
        axes.legend(frameon=False, fontsize=8, loc="lower right")
        axes.grid(alpha=0.3)
        save(figure, path)


def landscapes(path: Path, rows: Mapping[str, Mapping[str, Landscape]]) -> None:
    """Draw the loss along the gradient for teachers and students, one line per row.

    Args:
        path: The SVG to write.
        rows: By row and kind of model.
    """
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(7, 3.2), layout="constrained")
        for axes, kind in zip(figure.subplots(1, 2, sharex=True), ("teacher", "student"), strict=True):
            for row, found in rows.items():
                if kind in found:
                    one = found[kind]
                    last = len(one.loss) - 1
                    axes.plot([one.reach * (2 * n / last - 1) for n in range(last + 1)], one.loss, label=row)
            axes.set(title=f"{kind}s", xlabel="L2 distance along the gradient, pixels in [0, 1]", ylabel="loss")
            axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=8)
        save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as SVG, the same bytes for the same figure."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, stream.getvalue())
