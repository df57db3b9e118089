"""Plots as SVG data URIs that follow the light or dark theme of the reader."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from guard_plugins.artifacts.figures import Array
from guard_plugins.report.images import data_uri

COLOURS: Final = ("#2f7fd1", "#e0662f", "#1f9e77", "#b8629b", "#c99a1e", "#56a8c9", "#8a6fd0", "#7d8790")
"""Distinct for readers with any colour vision, and on white and on black."""
MARKERS: Final = "osD^vPX*"
LONGEST: Final = 40
"""Letters of an experiment's name that fit above a histogram."""
_INK: Final = "#010203"  # stands for the theme's text colour
_THEME: Final = (
    "<style>:root{color:#24292f}@media (prefers-color-scheme:dark){:root{color:#d5dae1}}"
    "@media print{:root{color:#24292f}}</style>"
)
_STYLE: Final[Any] = {  # matplotlib types it as a dict of some 300 literals
    "svg.fonttype": "none", "svg.hashsalt": "guard-plugins", "font.family": "sans-serif", "font.size": 10,
    "text.color": _INK, "axes.edgecolor": _INK, "axes.labelcolor": _INK, "xtick.color": _INK, "ytick.color": _INK,
    "axes.facecolor": "none", "figure.facecolor": "none", "axes.spines.top": False, "axes.spines.right": False,
    "text.parse_math": False, "axes.titlesize": 10, "axes.linewidth": 0.7,
    "figure.autolayout": False, "figure.constrained_layout.use": False,
}  # fmt: skip


@dataclass(frozen=True)
class Line:
    """A curve of accuracies in percent over radii in pixels of [0, 255]."""

    radii: Sequence[float]
    accuracies: Sequence[float]
    colour: int
    dashed: bool = False


def curves(lines: Sequence[Line]) -> str:
    """Return accuracy over radius, one line per experiment, in the colours and markers of the page's legend."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for line in lines:
            axes.plot(
                line.radii, line.accuracies, color=COLOURS[line.colour % len(COLOURS)], linewidth=1.8, markersize=4.5,
                marker=MARKERS[line.colour % len(MARKERS)], linestyle="--" if line.dashed else "-",
            )  # fmt: skip
        ticks = sorted({radius for line in lines for radius in line.radii})
        axes.set_xscale("symlog", base=2, linthresh=1)
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.set(xlabel="ε in 1/255", ylabel="accuracy (%)", ylim=(-2, 102))
        axes.grid(alpha=0.25, linewidth=0.6, color=_INK)
        _frame(figure, 1, left=0.6, right=0.05, top=0.05)

    return _svg(draw, 4.6, 3.2, framed=True)


def _fitting(name: str) -> str:
    """Return a name that leaves room for the median in the title of a small plot; tables have the whole name."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


def histograms(rows: Sequence[tuple[str, Array, int]], *, label: str, signed: bool) -> str:
    """Return one histogram per row on a common logarithmic axis, with the median marked.

    Args:
        rows: Label, values and number of the colour of each row.
        label: The quantity.
        signed: Whether values may be negative; the axis is then linear around 0.
    """
    values = np.concatenate([row[1] for row in rows]).astype(np.float64)
    edges = _edges(values[np.isfinite(values)], signed=signed)

    def draw(figure: Figure) -> None:
        for number, axes in enumerate(np.atleast_1d(figure.subplots(len(rows), 1, sharex=True))):
            name, counted, colour = rows[number]
            axes.hist(counted, bins=edges, color=COLOURS[colour % len(COLOURS)], alpha=0.75)
            axes.axvline(float(np.median(counted)), color=_INK, linewidth=1.2)
            axes.set_title(f"{_fitting(name)}: median {np.median(counted):.3g}", loc="left", fontsize=9, pad=2)
            axes.set_yticks([])
            axes.spines["left"].set_visible(False)
            if signed:
                axes.set_xscale("symlog", linthresh=_threshold(values))
                axes.set_xticks(_signed_ticks(values))
            else:
                axes.set_xscale("log")
            axes.set_xlim(edges[0], edges[-1])
            axes.xaxis.set_major_formatter(lambda value, _position: f"{value:g}")
            axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel(label)
        _frame(figure, len(rows), left=0.2, right=0.2, top=0.17)  # half a number may stick out on either side

    return _svg(draw, 4.6, 0.7 + 0.8 * max(len(rows), 1.6), framed=True)


def slices(rows: Sequence[tuple[str, Array]], *, reach: str) -> str:
    """Return slices through the loss: models as rows, images as columns, one colour scale per image.

    Args:
        rows: Label and losses (M, G, G) of each model.
        reach: How far the slices go, in words.
    """
    count = min(len(losses) for _, losses in rows)
    tops = [max(float(losses[image].max()) for _, losses in rows) for image in range(count)]

    def draw(figure: Figure) -> None:
        grid = figure.subplots(len(rows), count, squeeze=False)
        for row, (name, losses) in enumerate(rows):
            for image, top in enumerate(tops):
                _plane(grid[row][image], losses[image], top)
                if row == 0:
                    grid[row][image].set_title(f"loss 0 to {top:.3g}", fontsize=9)
            grid[row][0].set_ylabel(_wrapped(name), fontsize=9)
        figure.supxlabel(f"along the gradient → ({reach})", fontsize=9)

    return _svg(draw, 1.35 * count + 0.5, 1.35 * len(rows) + 0.6)


def _plane(axes: Axes, losses: Array, top: float) -> None:
    """Draw one slice, coloured by the square root of the loss, so that small losses can be told apart."""
    axes.imshow(losses.T, origin="lower", cmap="cividis", norm=PowerNorm(0.5, 0, top), interpolation="none")
    levels = [top * share for share in (0.04, 0.16, 0.36, 0.64) if losses.min() < top * share < losses.max()]
    if levels:
        axes.contour(losses.T, levels=levels, colors="#ffffff", linewidths=0.5)
    middle = losses.shape[0] // 2
    axes.plot(middle, middle, marker="+", color="#ffffff", markersize=7)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def bars(rows: Sequence[tuple[str, Sequence[tuple[str, float]]]]) -> str:
    """Return a stacked bar of seconds per stage for every experiment."""
    stages = list(dict.fromkeys(stage for _, parts in rows for stage, _ in parts))

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        left = np.zeros(len(rows))
        for number, stage in enumerate(stages):
            widths = np.array([dict(parts).get(stage, 0.0) for _, parts in rows])
            axes.barh(
                range(len(rows)), widths, left=left, color=COLOURS[number % len(COLOURS)], label=stage, height=0.6
            )
            left += widths
        axes.set_yticks(range(len(rows)), [_wrapped(name) for name, _ in rows])
        axes.invert_yaxis()
        axes.set_xlabel("seconds")
        figure.legend(loc="outside upper center", ncols=min(len(stages), 5), frameon=False, fontsize=8)

    return _svg(draw, 6.4, 1.2 + 0.4 * len(rows))


def _svg(draw: Callable[[Figure], None], width: float, height: float, *, framed: bool = False) -> str:
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout=None if framed else "constrained")
        draw(figure)
        buffer = io.StringIO()
        metadata: dict[str, Any] = {"Date": None, "Creator": None}
        figure.savefig(buffer, format="svg", metadata=metadata)
    text = buffer.getvalue().replace(_INK, "currentColor")
    start = text.index(">", text.index("<svg")) + 1
    return data_uri((text[:start] + _THEME + text[start:]).encode(), "svg+xml")


def _frame(figure: Figure, rows: int, *, left: float, right: float, top: float) -> None:
    """Place rows of axes under one another, where it is known what stands beside them.

    The constrained layout finds nearly the same places by measuring all texts, which takes half of a plot's time.

    Args:
        figure: The figure.
        rows: Number of axes.
        left: Inches beside them.
        right: Likewise.
        top: Inches above the first; below the last is room for numbers and a label.
    """
    width, height = figure.get_size_inches()
    bottom, gap = 0.47, 0.26
    each = (height - bottom - top - gap * (rows - 1)) / rows
    figure.subplots_adjust(left / width, bottom / height, 1 - right / width, 1 - top / height, hspace=gap / each)


def _edges(values: Array, *, signed: bool, bins: int = 28) -> Array:
    if not signed:
        low, high = max(float(values.min()), 1e-8), max(float(values.max()), 1e-7)
        return np.geomspace(low, high * 1.001, bins + 1)
    scale, (low, high) = _threshold(values), (float(values.min()), float(values.max()))
    ends = np.arcsinh(np.array([low, high]) / scale)
    return np.asarray(np.sinh(np.linspace(ends[0] - 1e-6, ends[1] + 1e-6, bins + 1)) * scale)


def _threshold(values: Array) -> float:
    """Return where a signed axis changes from linear to logarithmic: at the first quartile of the absolute values."""
    return max(float(np.quantile(np.abs(values), 0.25)), 1e-6)


def _signed_ticks(values: Array) -> list[float]:
    """Return 0 and the powers of ten of both signs that are far enough from 0 for a label."""
    low, high = float(values.min()), float(values.max())
    start = int(np.ceil(np.log10(_threshold(values)) + 0.3))
    decades = [10.0**power for power in range(start, start + 12)]
    return sorted([0.0, *(d for d in decades if d <= high), *(-d for d in decades if -d >= low)])


def _wrapped(label: str) -> str:
    return label.replace(", ", ",\n")
