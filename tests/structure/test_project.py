"""The project's own files agree with each other: documents, versions, commands, the oldest supported versions."""

from __future__ import annotations

import configparser
import re
import runpy
import tomllib
from pathlib import Path

import pytest

from guard_plugins import __version__

ROOT = Path(__file__).parents[2]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
TASKS = [line for line in CONTRIBUTING.splitlines() if re.match(r"\| (?!to \||---)", line)]
ALLOWED = {
    "guard_plugins", "methods", "examples", "tests", "docs", ".ci", ".github", "setup.cfg", "pyproject.toml",
    "ruff.toml", "MANIFEST.in", "README.md", "LICENSE", "CONTRIBUTING.md", "ARCHITECTURE.md", "CHANGELOG.md",
    "CITATION.cff", "SECURITY.md", ".gitignore", ".pre-commit-config.yaml", "Makefile",
}  # fmt: skip
"""What may lie at the top of the repository."""


def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def test_ten_changes_are_traced() -> None:
    assert len(TASKS) == 10


@pytest.mark.parametrize("row", TASKS, ids=lambda row: row.split("|")[1].strip())
def test_a_change_touches_at_most_two_files_that_exist(row: str) -> None:
    named = re.findall(r"`(guard_plugins/[\w/.]+)`", row)
    assert 1 <= len(named) <= 2
    for path in named:
        assert (ROOT / path).is_file(), path


def test_names_in_the_table_are_those_of_the_code() -> None:
    for row in TASKS:
        files = "".join((ROOT / path).read_text() for path in re.findall(r"`(guard_plugins/[\w/.]+)`", row))
        for name in re.findall(r"`([A-Z]\w+)", row):
            assert name in files, name


def test_one_version_everywhere() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    changelog = re.findall(r"^## (\S+) \((\S+)\)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert re.findall(r"^version: (.*)$", citation, re.MULTILINE) == [__version__]
    assert changelog[0] == (__version__, re.findall(r"^date-released: (.*)$", citation, re.MULTILINE)[0])


def test_the_example_plugins_accept_this_version() -> None:
    from packaging.requirements import Requirement

    for path in sorted((ROOT / "examples").glob("guard-*/pyproject.toml")):
        (core,) = tomllib.loads(path.read_text())["project"]["dependencies"]
        assert Requirement(core).specifier.contains(__version__)


def test_the_readme_and_ci_test_with_the_same_line() -> None:
    line = "pip install -e '.[test]' && pytest"
    assert f"```sh\n{line}\n```" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"\n({line})\n" in (ROOT / ".ci" / "run").read_text()


def test_the_floors_cover_every_requirement() -> None:
    text = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    floors = runpy.run_path(str(ROOT / ".ci" / "floors.py"))["floors"](text)
    required = setup_cfg()["options"]["install_requires"].split()
    assert "torch==2.6" in floors
    assert len(required) <= len(floors) == len(set(floors))
    assert {name.split(">=")[0] for name in required} <= {floor.split("==")[0] for floor in floors}


def test_two_floors_of_one_package_are_an_error() -> None:
    floors = runpy.run_path(str(ROOT / ".ci" / "floors.py"))["floors"]
    text = "[options]\ninstall_requires =\n    a>=1\n[options.extras_require]\ntest =\n    a>=2\n"
    with pytest.raises(ValueError, match="two floors of a: 1 and 2"):
        floors(text)


def test_nothing_else_lies_at_the_top() -> None:
    import subprocess

    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode:
        pytest.skip("not a git checkout")
    assert {name.split("/")[0] for name in listed.stdout.splitlines() if (ROOT / name).exists()} <= ALLOWED
