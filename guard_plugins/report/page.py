"""The report as one self-contained HTML page: no script, nothing fetched, readable on a phone and in print."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from guard_plugins._version import __version__
from guard_plugins.artifacts.evaluation import Evaluation
from guard_plugins.artifacts.formatting import tested
from guard_plugins.report import panels, provenance, summary
from guard_plugins.report.comparison import Comparison
from guard_plugins.report.gate import Verdicts, sentence, verdicts
from guard_plugins.report.plots import COLOURS
from guard_plugins.report.tables import Labelled, tables, validations

GLYPHS: Final = "●■◆▲▼✚✖★"
"""The plots' markers, in their order."""
MARKS: Final = {"passed": "✓", "failed": "✗", "warning": "!", "not run": "–"}
SECTIONS: Final[tuple[tuple[str, str], ...]] = (
    ("accuracy", "Accuracy"), ("curves", "Curves"), ("gate", "Gate"), ("images", "Images"), ("examples", "Examples"),
    ("loss", "Loss"), ("metrics", "Metrics"), ("cost", "Cost"), ("commands", "Commands"),
)  # fmt: skip


def page(comparison: Comparison) -> str:
    """Return the HTML of a report on one or several runs."""
    gate = verdicts(comparison)
    return _rendered(
        "report.html.j2", comparison.experiments, comparison.kinds, gate, [name for name, _ in SECTIONS],
        title=summary.title(comparison), subtitle=summary.subtitle(comparison), notes=provenance.notes(comparison),
        findings=summary.findings(comparison), lead=summary.lead(comparison, gate),
        explained=summary.explained(comparison),
        sheets=panels.sheets(comparison), validations=validations(comparison),
        examples=panels.examples(comparison), slices=panels.slices(comparison),
        histograms=panels.histograms(comparison), curvature_caption=panels.caption(comparison),
        metrics=summary.metrics(comparison), cost=summary.cost(comparison),
        provenance=provenance.provenance(comparison), source="the runs' folders alone",
        names=comparison.attack_names, dataset=comparison.dataset,
    )  # fmt: skip


def evaluation_page(found: Evaluation, *, command: str, facts: str, names: Mapping[str, str]) -> str:
    """Return the HTML of what ``guard-eval`` found.

    Args:
        found: The results.
        command: The command line.
        facts: Versions and machine in a sentence.
        names: How the names of attacks are written.
    """
    heading = found.kind.capitalize()
    images = found.model.robust[0].images if found.model.robust else 0
    models = f"{found.model.models} students, " if found.model.models > 1 else ""
    return _rendered(
        "evaluation.html.j2", [(found.subject, {found.kind: found.model})], {found.kind: heading},
        [Verdicts(found.subject, heading, found.gate)], ["accuracy", "curves", "gate", "commands"],
        title=f"{heading} {found.subject} on {found.dataset}", notes=found.notes, findings=[], lead="", explained=[],
        command=command,
        subtitle=f"{models}protocol {found.protocol} on {images} {tested(found.dataset)}, seed {found.seed}",
        facts=facts,
        source="one evaluation", names=names, dataset=found.dataset,
    )  # fmt: skip


def _rendered(
    template: str,
    experiments: Labelled,
    kinds: Mapping[str, str],
    gate: Sequence[Verdicts],
    shown: Sequence[str],
    *,
    source: str,
    names: Mapping[str, str],
    dataset: str,
    **content: Any,
) -> str:
    """Return a page: the parts that all pages share, and ``content`` for the template."""
    environment = Environment(
        loader=PackageLoader("guard_plugins.report", "templates"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    style, curves = _style(), panels.curves(experiments, kinds)
    context: dict[str, Any] = {
        "style": Markup(style), "style_hash": Markup(_hash(style)), "threat": summary.THREAT_MODEL,
        "several": len(experiments) > 1, "tables": tables(experiments, kinds, names, dataset), "curves": curves,
        "marks": MARKS,
        "sections": [(id, name) for id, name in SECTIONS if id in shown and (curves or id != "curves")],
        "keys": [(label, GLYPHS[n % len(GLYPHS)]) for n, (label, _) in enumerate(experiments)],
        "verdicts": gate, "alarms": [verdict for verdict in gate if verdict.of("failed")], "sentence": sentence,
        "next_commands": list(dict.fromkeys(v.next_command for v in gate if v.of("failed") and v.next_command)),
        "meanings": sorted({(item.name, item.suggests) for verdict in gate for item in verdict.of("warning")}),
        "footer": f"Written by guard-plugins {__version__} from {source}.",
    }  # fmt: skip
    return environment.get_template(template).render(context | content)


def _style() -> str:
    sheet = resources.files("guard_plugins.report").joinpath("templates/report.css").read_text(encoding="utf-8")
    keys = "".join(f".k{n}{{color:{COLOURS[n % len(COLOURS)]}}}" for n in range(64))
    # Inline styles would break the page's content policy, so that widths by number of images are classes.
    widths = "".join(
        f".n{n}{{max-width:{4.7 * n:g}rem}}.wide>.n{n}>img{{max-width:{4.7 * n:g}rem}}" for n in range(1, 11)
    )
    return sheet + keys + widths


def _hash(style: str) -> str:
    """Return the source expression with which the page's content policy accepts this style sheet and no other."""
    return f"sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode('ascii')}"
