"""The report as one self-contained HTML page: no script, nothing fetched, readable on a phone and in print."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from guard_plugins._version import __version__
from guard_plugins.report import illustrations, provenance, summary
from guard_plugins.report.comparison import Comparison
from guard_plugins.report.plots import COLOURS
from guard_plugins.report.tables import tables
from guard_plugins.report.verdicts import verdicts

GLYPHS: Final = "●■◆▲▼✚✖★"
"""The plots' markers, in their order."""
MARKS: Final = {"passed": "✓", "failed": "✗", "warning": "!", "not run": "–"}
SECTIONS: Final[tuple[tuple[str, str], ...]] = (
    ("accuracy", "Accuracy"), ("curves", "Curves"), ("gate", "Gate"), ("images", "Images"), ("examples", "Examples"),
    ("loss", "Loss"), ("metrics", "Metrics"), ("cost", "Cost"), ("commands", "Commands"),
)  # fmt: skip


def page(comparison: Comparison) -> str:
    """Return the HTML of a report on one or several runs."""
    environment = Environment(
        loader=PackageLoader("guard_plugins.report", "templates"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    style, told = _style(), verdicts(comparison)
    curves = illustrations.curves(comparison)
    context: dict[str, Any] = {
        "style": Markup(style), "style_hash": Markup(_hash(style)),
        "title": summary.title(comparison), "subtitle": summary.subtitle(comparison), "threat": summary.THREAT_MODEL,
        "findings": summary.findings(comparison), "notes": summary.notes(comparison),
        "several": len(comparison.entries) > 1, "tables": tables(comparison), "curves": curves,
        "sections": [section for section in SECTIONS if section[0] != "curves" or curves],
        "keys": [(entry.label, GLYPHS[n % len(GLYPHS)]) for n, entry in enumerate(comparison.entries)],
        "verdicts": told, "alarms": [verdict for verdict in told if verdict.of("failed")], "marks": MARKS,
        "sheets": illustrations.sheets(comparison), "examples": illustrations.examples(comparison),
        "slices": illustrations.slices(comparison), "histograms": illustrations.histograms(comparison),
        "curvature_caption": illustrations.caption(comparison), "metrics": summary.metrics(comparison),
        "cost": summary.cost(comparison), "provenance": provenance.provenance(comparison),
        "footer": f"Written by guard-plugins {__version__} from the runs' folders alone.",
    }  # fmt: skip
    return environment.get_template("report.html.j2").render(context)


def _style() -> str:
    sheet = resources.files("guard_plugins.report").joinpath("templates/report.css").read_text(encoding="utf-8")
    keys = "".join(f".k{n}{{color:{COLOURS[n % len(COLOURS)]}}}" for n in range(64))
    return sheet + keys


def _hash(style: str) -> str:
    """Return the source expression that lets the page's content policy accept exactly this style sheet."""
    return f"sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode('ascii')}"
