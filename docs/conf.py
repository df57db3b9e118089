"""The documentation site: ``sphinx-build -W docs build/docs`` (``pip install -e '.[docs]'``)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefinedType

from guard_plugins._version import __version__
from guard_plugins.cli.arguments import command_parser
from guard_plugins.config.explain import flag
from guard_plugins.config.schema import RunConfig
from guard_plugins.config.sources import Parser
from guard_plugins.host import PluginHost
from guard_plugins.pipeline.standalone.request import EvaluationRequest

project, author = "guard-plugins", "The guard-plugins developers"
release = version = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["build"]
html_theme = "alabaster"
html_theme_options = {
    "description": "Distilled data sets that resist attacks", "fixed_sidebar": True, "page_width": "1040px",
}  # fmt: skip
html_static_path, html_css_files = ["_static"], ["tables.css"]
smartquotes = False
"""Or the two hyphens of an option become a dash."""
autodoc_typehints = "none"
autodoc_member_order = "bysource"
SHIPPED = ("sre2l", "cda", "dc", "noise", "random", "centres")
"""The methods whose options are listed; others that may be installed are not the project's."""
EXPERIMENTS = "examples/experiments"


Row = tuple[str, str, str]
"""Option, default and meaning."""


def _options(model: type[BaseModel], above: tuple[str, ...] = ()) -> Iterator[Row]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _options(kind, (*above, name))
        else:
            yield flag((*above, name)), _default(field.get_default()), field.description or ""


def _default(value: Any) -> str:
    if value is None or isinstance(value, PydanticUndefinedType):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _commands(parser: Parser) -> Iterator[Row]:
    for action in parser._actions:
        value = "" if action.nargs == 0 else f" {action.metavar or '|'.join(map(str, action.choices or ()))}"
        yield f"{action.option_strings[-1]}{value}", "", action.help or ""


def _table(rows: Iterable[Row]) -> str:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = [f"| `{name}` | {f'`{default}`' if default else ''} | {text} |" for name, default, text in cells]
    return "\n".join(["| option | default | meaning |", "| --- | --- | --- |", *lines]) + "\n"


def _settings() -> str:
    """Return the reference of commands and settings, from the parsers and models themselves."""
    shared, host = list(_options(RunConfig)), PluginHost()
    sections = dict.fromkeys(name.split(".")[0] if "." in name else "" for name, _, _ in shared)
    parts = [
        "# Commands and settings\n\nMade from the program's own models. The defaults are those without a preset; "
        "`guard-run METHOD --dataset NAME --help` has those that hold for a data set.\n",
        f"## guard-run: what to do\n\n{_table(_commands(command_parser()))}",
        "## guard-run: settings of every method\n",
    ]
    for section in sections:
        rows = [row for row in shared if (row[0].split(".")[0] if "." in row[0] else "") == section]
        parts.append(f"### {section.lstrip('-') or 'the run'}\n\n{_table(rows)}")
    parts.append("## guard-run: options of a method\n")
    own = {name: list(_options(method.Config)) for name, method in sorted(host.methods.items())}
    parts += [f"### {name}\n\n{_table(rows)}" for name, rows in own.items() if rows and name in SHIPPED]
    parts.append(f"## guard-eval\n\n{_table(_options(EvaluationRequest))}")
    return "\n".join(parts)


def _evidence(results: Path) -> str:
    """Return the page of all experiments, from the file that they are written to; its links are seen from here."""
    text = results.read_text(encoding="utf-8").replace("# Results", "# Evidence", 1).replace("[raw/](raw)", "`raw/`")

    def moved(link: re.Match[str]) -> str:
        return f"]({os.path.relpath(results.parent / link[1], results.parents[2] / 'docs')})"

    return re.sub(r"\]\((?![a-z]+:|#)([^)]+)\)", moved, text)


def _linked(_app: Any, _name: str, source: list[str]) -> None:
    """Lead links to the file of all experiments to its page; name other pages that the site has not."""
    text = source[0].replace(f"](../{EXPERIMENTS}/RESULTS.md", "](evidence.md")
    source[0] = re.sub(r"\[([^]]+)\]\(\.\./([^)#]+\.md)(?:#[^)]*)?\)", r"\1 (`\2` in the repository)", text)


def setup(app: Any) -> None:
    """Write the pages that are made before Sphinx looks for its sources."""
    folder = Path(app.srcdir)
    folder.joinpath("settings.md").write_text(_settings(), encoding="utf-8")
    results = folder.parent / EXPERIMENTS / "RESULTS.md"
    folder.joinpath("evidence.md").write_text(_evidence(results), encoding="utf-8")
    app.connect("source-read", _linked)
