"""Every read of a file asks :func:`guard_plugins.files.regular` first: at the opening of a pipe, a program hangs."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "guard_plugins"
READS = {"read_text", "read_bytes"}


def opened(call: ast.Call) -> ast.expr | None:
    """Return what a call opens for reading, if it does."""
    function = call.func
    if isinstance(function, ast.Name):
        return call.args[0] if function.id in ("safe_open", "load_file", "open") else None
    if not isinstance(function, ast.Attribute):
        return None
    if function.attr in READS:
        return function.value
    owner = ast.unparse(function.value)
    if function.attr == "open" and owner not in ("Image", "os"):
        mode = ast.literal_eval(call.args[0]) if call.args and isinstance(call.args[0], ast.Constant) else "r"
        return function.value if isinstance(mode, str) and set(mode) <= set("rbt") else None
    if function.attr == "spec_from_file_location":
        return call.args[1]
    known = {"torch.load", "np.load", "zipfile.ZipFile", "parquet.read_table", "Image.open"}
    return call.args[0] if f"{owner}.{function.attr}" in known else None


def safe(target: ast.expr) -> bool:
    """Return whether what is opened was asked after, is in memory, or is a file of the package."""
    return any(text in ast.unparse(target) for text in ("regular(", "BytesIO", "resources.files"))


def unsafe(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        target = opened(node) if isinstance(node, ast.Call) else None
        if target is not None and not safe(target):
            yield ast.unparse(node)


def test_every_read_asks_whether_the_file_is_one() -> None:
    found = {
        (path.relative_to(PACKAGE).as_posix(), text)
        for path in PACKAGE.rglob("*.py")
        for text in unsafe(path.read_text(encoding="utf-8"))
    }
    assert {text for _, text in found} <= {
        # Its caller opened the file itself, or wrote it a moment before.
        "importlib.util.spec_from_file_location(name, self.path)",
        "source.read_bytes()",
    }, sorted(found)


@pytest.mark.parametrize(
    "line",
    [
        "safe_open(path, framework='pt')", "load_file(path)", "torch.load(path)", "np.load(path)", "Image.open(path)",
        "zipfile.ZipFile(path)", "parquet.read_table(path)", "path.read_text()", "(run / 'x').read_bytes()",
        "path.open('rb')", "path.open()", "open(path)", "importlib.util.spec_from_file_location(name, path)",
    ],
)  # fmt: skip
def test_the_check_sees_what_opens_a_file(line: str) -> None:
    assert list(unsafe(line))
    assert not list(unsafe(line.replace("path", "regular(path)").replace("(run / 'x')", "regular(run)")))
    assert not list(unsafe("path.open('xb'); stdout.write(x); part.open('r+b'); os.open(path, flags)"))
