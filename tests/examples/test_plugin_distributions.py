"""The example distributions, installed beside the core: their own tests, the listings, whole runs, their absence."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from tests.distributions import command, installed, metadata

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("guard-*"))
TINY = [
    "--ipc", "1", "--data.train-per-class", "12", "--student.epochs", "1",
    "--evaluation.images", "10", "--device", "cpu",
]  # fmt: skip


def example(name: str) -> Path:
    return ROOT / "examples" / name


def test_the_examples_are_there() -> None:
    assert {path.name for path in EXAMPLES} >= {"guard-dm", "guard-rded", "guard-parts"}


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda path: path.name)
def test_packaging_and_entry_point(folder: Path) -> None:
    project = metadata(folder)
    ((name, module),) = project["entry-points"]["guard_plugins"].items()
    assert (project["name"], module) == (folder.name, f"guard_{name}")
    assert (folder / "src" / module / "py.typed").exists()
    assert any(line.startswith("guard-plugins>=") and ",<" in line for line in project["dependencies"])
    assert (folder / "README.md").read_text().startswith(f"# {folder.name}\n")


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda path: path.name)
def test_they_are_built_on_the_public_api_only(folder: Path) -> None:
    from tests.testing.test_writing_plugins import public_modules

    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "guard_plugins":
                assert node.module in public_modules(), f"{path}: {node.module}"


@pytest.mark.slow
def test_listing_and_check_say_what_they_are(tmp_path: Path) -> None:
    site = tmp_path / "site"
    env = installed(example("guard-dm"), site)
    for name in ("guard-rded", "guard-parts"):
        env["PYTHONPATH"] = installed(example(name), site)["PYTHONPATH"].split(":")[0] + ":" + env["PYTHONPATH"]
    done = command("guard_plugins.cli.plugins", "--check", "--json", env=env, cwd=tmp_path)
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert {rows[name]["health"] for name in ("dm", "rded", "parts")} == {"ok"}
    assert rows["dm"]["distribution"] == "guard-dm"
    assert (rows["dm"]["guards"], rows["rded"]["guards"]) == ([], ["train_teacher"])
    text = command("guard_plugins.cli.plugins", "--check", env=env, cwd=tmp_path).stdout
    assert "dm: guards nothing, so the curvature hook does not apply to it" in text
    assert "rded: guards nothing" not in text
    for kind, name in (("data sets", "shapes"), ("networks", "mlp"), ("attacks", "brightness")):
        (line,) = [line for line in text.splitlines() if line.startswith(f"{kind}: ")]
        assert f"{name} (guard-parts 0.1.0)" in line


@pytest.mark.slow
@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda path: path.name)
def test_they_pass_their_own_tests(folder: Path, tmp_path: Path) -> None:
    env = installed(folder, tmp_path / "site")
    done = command("pytest", "-q", "-p", "no:cacheprovider", env=env, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_a_run_states_that_the_hook_does_not_apply(tmp_path: Path) -> None:
    env = installed(example("guard-dm"), tmp_path / "site")
    run = tmp_path / "run"
    arguments = ["--method", "dm", "--dm.iterations", "3", *TINY, "--output", str(run)]
    done = command("guard_plugins.cli.run", *arguments, env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "The curvature hook does not apply to the method 'dm'" in done.stderr
    report = json.loads((run / "report.json").read_text())
    assert report["guard"] is None
    plugins = json.loads((run / "manifest.json").read_text())["plugins"]
    assert {"name": "dm", "distribution": "guard-dm", "version": "0.1.0", "status": "enabled"} in plugins


def test_uninstalled_they_are_gone(tmp_path: Path) -> None:
    env = installed(example("guard-parts"), tmp_path / "site")
    done = command("guard_plugins.cli.run", "--method", "dm", env=env, cwd=tmp_path)
    assert done.returncode == 2
    assert "Unknown method 'dm'" in done.stderr
