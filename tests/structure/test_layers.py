"""The plan of the house, read off the imports: no circle, nothing that reaches up, small folders and files.

Every import counts, also those inside functions and under TYPE_CHECKING: a reader has to follow them too.
"""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "guard_plugins"

LAYERS = (
    ("_version", "errors", "files"),
    ("curvature", "data"),
    ("config", "networks"),
    ("artifacts",),
    ("runtime",),
    ("training", "attacks"),
    ("evaluation", "labels"),
    ("method",),
    ("report", "hookspecs"),
    ("host",),
    ("pipeline",),
    ("testing", "scaffold"),
    ("cli",),
    ("__main__",),
)
"""From the ground up; a module imports from its own folder and from lower layers only."""


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, Path]:
    return {module_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def imports(name: str) -> frozenset[str]:
    """Modules of the package that ``name`` imports, anywhere in its text."""
    tree, found = ast.parse(modules()[name].read_text(encoding="utf-8")), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            submodules = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= submodules & modules().keys() or {node.module}
    return frozenset(found & modules().keys() - {name})


def room(name: str) -> str:
    return name.split(".")[1]


@pytest.fixture(scope="module")
def levels() -> dict[str, int]:
    return {part: level for level, layer in enumerate(LAYERS) for part in layer}


def inner_modules() -> list[str]:
    return [name for name in modules() if name != "guard_plugins"]


def test_the_list_of_layers_is_complete(levels: dict[str, int]) -> None:
    assert {room(name) for name in inner_modules()} == set(levels)


def test_nothing_imports_upwards(levels: dict[str, int]) -> None:
    wrong = [
        f"{name} -> {other}"
        for name in inner_modules()
        for other in imports(name)
        if other == "guard_plugins" or (room(other) != room(name) and levels[room(other)] >= levels[room(name)])
    ]
    assert not wrong, "\n".join(wrong)


def test_there_is_no_import_circle() -> None:
    # Importing a module imports its packages first, so a package counts where its text is more than a docstring.
    circles = list(circular({name: imports(name) for name in inner_modules()}))
    assert not circles, "\n".join(map(str, circles))


@pytest.mark.parametrize("package", sorted({name.rpartition(".")[0] for name in modules() if "." in name}))
def test_the_rooms_of_a_folder_form_no_circle(package: str) -> None:
    # A folder in it counts as one room: whoever reads it needs no room that stands above.
    depth = package.count(".") + 1
    rooms: dict[str, set[str]] = {}
    for name in inner_modules():
        if name.startswith(package + "."):
            own = rooms.setdefault(name.split(".")[depth], set())
            own |= {other.split(".")[depth] for other in imports(name) if other.startswith(package + ".")}
    graph = {name: frozenset(others - {name}) for name, others in rooms.items()}
    circles = list(circular(graph))
    assert not circles, "\n".join(map(str, circles))


def circular(graph: dict[str, frozenset[str]]) -> Iterator[list[str]]:
    """Modules left when everything that imports nothing unfinished has been taken away, again and again."""
    left = dict(graph)
    while done := [name for name, others in left.items() if not others & left.keys()]:
        for name in done:
            del left[name]
    # What only leads into a circle is taken away too.
    while loose := [name for name in left if not any(name in left[other] for other in left if other != name)]:
        for name in loose:
            del left[name]
    if left:
        yield sorted(left)


def test_the_circle_finder_finds_circles() -> None:
    graph = {"a": frozenset("b"), "b": frozenset("c"), "c": frozenset("b"), "d": frozenset("a")}
    assert list(circular(graph)) == [["b", "c"]]


def test_few_loose_modules_at_the_top() -> None:
    assert len([path for path in PACKAGE.glob("*.py") if path.name != "__init__.py"]) <= 6


@pytest.mark.parametrize("folder", sorted({path.parent for path in modules().values()}), ids=lambda path: path.name)
def test_folders_are_small(folder: Path) -> None:
    assert len([path for path in folder.glob("*.py") if path.name != "__init__.py"]) <= 16


def test_modules_are_small() -> None:
    lengths = {
        str(path): len(path.read_text(encoding="utf-8").splitlines())
        for root in (PACKAGE, ROOT / "methods")
        for path in root.rglob("*.py")
    }
    assert not {path: length for path, length in lengths.items() if length > 250}
    assert statistics.median(lengths.values()) <= 120


def test_functions_are_short() -> None:
    lengths = [
        node.end_lineno - node.lineno + 1
        for path in modules().values()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.end_lineno
    ]
    assert sum(length > 50 for length in lengths) <= 0.002 * len(lengths)
