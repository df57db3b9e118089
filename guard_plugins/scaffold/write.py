"""Writes the distribution of a new method from the templates."""

from __future__ import annotations

import ast
import builtins
import importlib.util
import keyword
import re
from collections.abc import Mapping
from importlib import metadata, resources
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

ONE_FILE: Final = "file.py.tmpl"
"""Template of a method that is one file."""

NOT_TEXT: Final = frozenset({"null", "none", "true", "false", "yes", "no", "on", "off", "y", "n", "list"})
"""Words that YAML reads as something else than text, or that `guard-run` is asked for by habit."""


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


def write_file(name: str, into: Path) -> Path:
    """Write ``into/<name>.py``, a method in one file that needs no installation.

    Args:
        name: Name of the method.
        into: An existing folder.

    Returns:
        The file.

    Raises:
        ConfigError: If the name cannot be used or the file cannot be written; nothing is overwritten.
    """
    _require_usable(name)
    words = _words_of(name)
    path = into / words["module_file"]
    text = Template(_template(ONE_FILE)).substitute(words)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(
            f"The file {path} cannot be made", seen=error.strerror or str(error),
            do="Choose another name, or another folder with --into; nothing is overwritten.",
        ) from error  # fmt: skip
    return path


def rendered(name: str) -> dict[str, str]:
    """Return the text of every file of the distribution by its path within it.

    Args:
        name: Name of the method.
    """
    words = _words_of(name)
    made = {
        Template(path).substitute(words): Template(_template(source)).substitute(words)
        for path, source in FILES.items()
    }
    return {**made, f"src/{words['module']}/py.typed": ""}


def _words_of(name: str) -> dict[str, str]:
    section = name.replace("-", "_")
    return {
        "name": name,
        "distribution": f"guard-{name}",
        "module": f"guard_{section}",
        "module_file": f"{section}.py",
        "section": section,
        "cls": _class_name(name),
        "api": str(API_VERSION),
        "core": ".".join(__version__.split(".")[:2]),
        "next_major": str(int(__version__.split(".")[0]) + 1),
    }


def _template(name: str) -> str:
    return (resources.files("guard_plugins.scaffold") / "template" / name).read_text(encoding="utf-8")


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
    module, taken_words = f"guard_{name.replace('-', '_')}", _words(rendered("zzz-zzz"))
    if importlib.util.find_spec(module) is not None or f"guard-{name}" in _distributions():
        raise ConfigError(
            f"{name!r} cannot be the name of a method: its package would replace one that is installed",
            seen=f"guard-{name}, with the module {module}", do="Choose another name.",
        )  # fmt: skip
    clash = {name.replace("-", "_"), _class_name(name)} & taken_words | {_class_name(name)} & set(dir(builtins))
    if clash or keyword.iskeyword(_class_name(name)) or name in NOT_TEXT:
        raise ConfigError(
            f"{name!r} cannot be the name of a method: its code, or YAML, needs the word for something else",
            seen=", ".join(sorted(clash)) or name, do="Choose another name, such as my-" + name + ".",
        )  # fmt: skip


def _class_name(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("-"))


def _words(files: Mapping[str, str]) -> set[str]:
    """Return every name that the code of a new plugin uses; the method's own must be none of them."""
    nodes = [node for path, text in files.items() if path.endswith(".py") for node in ast.walk(ast.parse(text))]
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    names |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    names |= {node.name for node in nodes if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
    imported = [alias for node in nodes if isinstance(node, (ast.Import, ast.ImportFrom)) for alias in node.names]
    return names | {alias.asname or alias.name for alias in imported}


def _distributions() -> set[str]:
    """Return the names of all installed distributions, as pip compares them."""
    return {re.sub(r"[-_.]+", "-", str(found.name)).lower() for found in metadata.distributions()}
