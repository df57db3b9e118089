"""Writes a run's report into its folder, as JSON, Markdown and HTML."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from guard_plugins.artifacts.atomic import write_text
from guard_plugins.artifacts.reading import read_json
from guard_plugins.errors import ConfigError, DamagedError
from guard_plugins.report.comparison import Comparison, compare
from guard_plugins.report.json_export import as_json, as_markdown
from guard_plugins.report.markdown import markdown
from guard_plugins.report.page import page
from guard_plugins.report.runs import load_run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

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


def write_comparison(runs: Sequence[Path], output: Path) -> Comparison:
    """Write the page that compares runs, and the same numbers beside it as JSON and Markdown; return what they hold.

    Args:
        runs: Folders of finished runs.
        output: The page.

    Raises:
        ArtifactError: If a run is damaged, or something cannot be written.
        ConfigError: If the runs cannot be compared, or other files have the names.
    """
    comparison = compare([load_run(path) for path in runs])
    if not output.parent.is_dir():
        raise ConfigError(f"There is no folder {output.parent} (--output)", do="Make it first, or choose another.")
    require_free(output)
    # First what says whose the others are, so that a command that was killed here can be given again.
    write_text(output.with_suffix(".json"), as_json(comparison, page=output.name))
    write_text(output, page(comparison))
    write_text(output.with_suffix(".md"), as_markdown(comparison))
    return comparison


def require_free(output: Path) -> None:
    """Refuse a page that would replace anything but an earlier comparison of that name.

    Beside a run's own page lies the report of the run.

    Args:
        output: The page; its JSON and Markdown have the same name.

    Raises:
        ConfigError: If one of the three is there and the JSON does not say that it is a comparison's.
    """
    numbers = output.with_suffix(".json")
    if _page_of(numbers, output.name) == output.name:
        return
    taken = next((path for path in (output, numbers, output.with_suffix(".md")) if os.path.lexists(path)), None)
    if taken is not None:
        raise ConfigError(
            f"{taken} is there already, and nothing says that it belongs to a comparison of this name (--output)",
            do="Choose another name, or move that file away.",
        )


def _page_of(numbers: Path, otherwise: str) -> str | None:
    """Return the name of the page that a comparison's JSON belongs to, or None if it is no comparison's."""
    try:
        content = read_json(numbers, do="")
    except DamagedError:
        return None
    if not isinstance(content, dict) or not {"entries", "findings"} <= content.keys():
        return None
    return str(content.get("page", otherwise))  # earlier ones do not say it
