"""Writes a run's report into its folder, as JSON, Markdown and HTML."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guard_plugins.artifacts.atomic import write_text
from guard_plugins.report.comparison import compare
from guard_plugins.report.markdown import markdown
from guard_plugins.report.page import page
from guard_plugins.report.runs import load_run

if TYPE_CHECKING:
    from guard_plugins.artifacts.folder import RunFolder
    from guard_plugins.artifacts.report import Report


def publish(folder: RunFolder, report: Report) -> None:
    """Write ``report.json``, ``report.md`` and ``report.html``.

    Raises:
        ArtifactError: If something cannot be written.
    """
    write_text(folder.report, report.model_dump_json(indent=2) + "\n")
    write_text(folder.report.with_suffix(".md"), markdown(report))
    write_text(folder.report.with_suffix(".html"), page(compare([load_run(folder.path)])))
