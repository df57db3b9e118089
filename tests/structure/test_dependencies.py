"""The dependency rules of ARCHITECTURE.md, read off the imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
METHODS = tuple(sorted(path.name for path in (ROOT / "methods").iterdir() if path.name.startswith("guard_")))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""


def modules(folder: str) -> list[Path]:
    found = sorted((ROOT / folder).rglob("*.py"))
    assert found
    return found


@pytest.mark.parametrize("path", modules("guard_plugins/curvature"), ids=lambda path: path.stem)
def test_the_hook_imports_torch_and_the_errors_only(path: Path) -> None:
    foreign = {
        name
        for name in imports(path)
        if name.split(".")[0] == "guard_plugins"
        and not name.startswith(("guard_plugins.curvature", "guard_plugins.errors"))
    }
    third_party = {name for name in imports(path) if name.split(".")[0] in {"numpy", "accelerate", "pydantic", "rich"}}
    assert not foreign | third_party


def test_nothing_in_the_host_imports_a_method() -> None:
    assert METHODS
    for path in modules("guard_plugins"):
        assert not [name for name in imports(path) if name.split(".")[0] in METHODS], path


def test_methods_contain_no_word_of_the_hook() -> None:
    for path in modules("methods"):
        names = list(imports(path))
        assert not [name for name in names if name.startswith("guard_plugins.curvature")], path
        assert "CurvatureHook" not in path.read_text(), path


def test_methods_is_a_source_root_and_not_a_package() -> None:
    assert not (ROOT / "methods" / "__init__.py").exists()


def test_setup_cfg_lists_every_package() -> None:
    import configparser

    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    listed = set(parser["options"]["packages"].split())
    present = {
        ".".join(path.parent.relative_to(root).parts)
        for root in (ROOT, ROOT / "methods")
        for path in root.rglob("__init__.py")
        if path.relative_to(root).parts[0] == "guard_plugins" or (root.name == "methods" and path.parts[-2] in METHODS)
    }
    assert listed == present
