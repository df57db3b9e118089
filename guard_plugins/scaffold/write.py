"""Writes the distribution of a new method from the templates."""

from __future__ import annotations

import keyword
import re
from importlib import resources
from pathlib import Path
from string import Template
from typing import Final

from guard_plugins._version import __version__
from guard_plugins.config.compose import taken_names
from guard_plugins.errors import ConfigError
from guard_plugins.hookspecs import API_VERSION
from guard_plugins.host.discovery import catalogue

FILES: Final = {
    "pyproject.toml": "pyproject.toml.tmpl",
    "README.md": "README.md.tmpl",
    "src/$module/__init__.py": "plugin.py.tmpl",
    "src/$module/config.py": "config.py.tmpl",
    "src/$module/method.py": "method.py.tmpl",
    "tests/test_$section.py": "test_method.py.tmpl",
}
"""Files of the distribution, by the templates they are made from."""


def write_plugin(name: str, into: Path) -> Path:
    """Write ``into/guard-<name>``: packaging, entry point, method, options, tests and a README.

    Args:
        name: Name of the method, as in ``guard-run --method NAME``.
        into: An existing folder.

    Returns:
        The new folder.

    Raises:
        ConfigError: If the name cannot be used or the folder cannot be written; nothing is overwritten.
    """
    _require_usable(name)
    folder = into / f"guard-{name}"
    files = rendered(name)
    try:
        folder.mkdir()
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"The folder {folder} cannot be made", seen=error.strerror or str(error),
            do="Choose another name, or another folder with --into; nothing is overwritten.",
        ) from error  # fmt: skip
    return folder


def rendered(name: str) -> dict[str, str]:
    """Return the text of every file of the distribution by its path within it.

    Args:
        name: Name of the method.
    """
    section = name.replace("-", "_")
    words = {
        "name": name,
        "distribution": f"guard-{name}",
        "module": f"guard_{section}",
        "section": section,
        "cls": "".join(part.capitalize() for part in name.split("-")),
        "api": str(API_VERSION),
        "core": ".".join(__version__.split(".")[:2]),
        "next_major": str(int(__version__.split(".")[0]) + 1),
    }
    templates = resources.files("guard_plugins.scaffold") / "template"
    made = {
        Template(path).substitute(words): Template((templates / source).read_text(encoding="utf-8")).substitute(words)
        for path, source in FILES.items()
    }
    return {**made, f"src/{words['module']}/py.typed": ""}


def _require_usable(name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or keyword.iskeyword(name):
        raise ConfigError(
            f"{name!r} cannot be the name of a method", do="Use small letters, digits and single hyphens: my-method."
        )
    if name.replace("-", "_") in taken_names():
        raise ConfigError(
            f"{name!r} cannot be the name of a method: its options would hide guard-run's own --{name}",
            do="Choose another name.",
        )
    taken = [entry for entry in catalogue() if entry.name == name]
    if taken:
        raise ConfigError(
            f"There already is a method called {name!r}", seen=f"installed with {taken[0].origin}",
            do="Choose another name.",
        )  # fmt: skip
