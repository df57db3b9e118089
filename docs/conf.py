"""The documentation site: ``sphinx-build -W docs build/docs`` (``pip install -e '.[docs]'``)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from guard_plugins._version import __version__
from guard_plugins.config.explain import flag
from guard_plugins.config.schema import RunConfig

project, author = "guard-plugins", "The guard-plugins developers"
release = version = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["build"]
html_theme = "alabaster"
html_theme_options = {"description": "Distilled data sets that resist attacks", "fixed_sidebar": True}
autodoc_typehints = "none"
autodoc_member_order = "bysource"
suppress_warnings = ["myst.xref_missing"]
"""Links to files outside of docs/; tests/structure/test_readme.py checks every link of the repository."""


def _options(model: type[BaseModel], above: tuple[str, ...] = ()) -> Iterator[tuple[str, Any, str]]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _options(kind, (*above, name))
        else:
            yield flag((*above, name)), field.get_default(), field.description or ""


def _settings() -> str:
    """Return the reference of all settings that methods share, from the models themselves."""
    rows = []
    for name, default, text in _options(RunConfig):
        shown = "" if default is None or "PydanticUndefined" in repr(default) else f"`{default}`"
        rows.append(f"| `{name}` | {shown} | {text.replace('|', chr(92) + '|')} |")
    head = "# Settings\n\nWhat all methods share; `guard-run METHOD --help` has those of a method, too.\n\n"
    return head + "| option | default | meaning |\n| --- | --- | --- |\n" + "\n".join(rows) + "\n"


def setup(app: Any) -> None:
    """Write the reference before Sphinx looks for its sources."""
    Path(app.srcdir, "settings.md").write_text(_settings(), encoding="utf-8")
