"""``guard-plugins new NAME`` writes a distribution that is complete, and passes its own tests unchanged."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from guard_plugins.cli.plugins import main
from guard_plugins.errors import ConfigError
from guard_plugins.hookspecs import API_VERSION
from guard_plugins.scaffold import write_plugin
from guard_plugins.scaffold.write import FILES, ONE_FILE, rendered, write_file
from tests.distributions import command, installed


def test_every_template_is_used_and_every_word_filled_in() -> None:
    from importlib import resources

    there = {path.name for path in (resources.files("guard_plugins.scaffold") / "template").iterdir()}
    assert there == {*FILES.values(), ONE_FILE}
    for path, text in rendered("my-method").items():
        assert "$" not in path + text
        if path.endswith(".py"):
            ast.parse(text)
    assert "class MyMethod(Method)" in rendered("my-method")["src/guard_my_method/method.py"]


def test_the_packaging_announces_the_method_and_pins_the_major_version() -> None:
    project = tomllib.loads(rendered("my-method")["pyproject.toml"])["project"]
    assert project["name"] == "guard-my-method"
    assert project["entry-points"]["guard_plugins"] == {"my-method": "guard_my_method"}
    assert project["dependencies"] == ["guard-plugins>=0.2,<1"]
    assert f"guard_api = {API_VERSION}" in rendered("my-method")["src/guard_my_method/__init__.py"]


def test_the_command_writes_the_folder_and_says_what_is_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new", "mine", "--into", str(tmp_path)]) == 0
    assert "pip install -e '.[test]' && pytest && guard-run --method mine" in capsys.readouterr().out
    written = {path.relative_to(tmp_path / "guard-mine").as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert written == set(rendered("mine"))


@pytest.mark.parametrize(
    ("name", "message", "remedy"),
    [
        ("My Method", "'My Method' cannot be the name of a method", "small letters"),
        ("-mine", "cannot be the name", "small letters"),
        ("class", "cannot be the name", "small letters"),
        ("../mine", "cannot be the name", "small letters"),
        ("teacher", "its options would hide guard-run's own --teacher", "another name"),
        ("sre2l", "There already is a method called 'sre2l'", "another name"),
        ("none", "needs the word for something else", "my-none"),
        ("true", "needs the word for something else", "my-true"),
        ("f", "needs the word for something else", "my-f"),
        ("distilled-set", "needs the word for something else", "my-distilled-set"),
        ("loop-state", "needs the word for something else", "my-loop-state"),
        ("classwise", "needs the word for something else", "my-classwise"),
        ("exception", "needs the word for something else", "my-exception"),
        ("plugins", "would replace one that is installed", "another name"),
        ("baselines", "would replace one that is installed", "another name"),
    ],
)
def test_names_that_cannot_be(name: str, message: str, remedy: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        write_plugin(name, tmp_path)
    assert remedy in caught.value.do
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_plugin("mine", tmp_path)
    readme = tmp_path / "guard-mine" / "README.md"
    readme.write_text("my own words")
    assert main(["new", "mine", "--into", str(tmp_path)]) == 2
    assert "nothing is overwritten" in capsys.readouterr().err
    assert readme.read_text() == "my own words"
    assert main(["new", "mine", "--into", str(tmp_path / "nowhere")]) == 2


def test_a_method_in_one_file_has_at_most_40_lines_and_is_never_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new", "my-own", "--file", "--into", str(tmp_path)]) == 0
    path = tmp_path / "my_own.py"
    assert f"guard-run --plugin {path} --method my-own" in capsys.readouterr().out
    assert "$" not in path.read_text()
    assert len(path.read_text().splitlines()) <= 40
    with pytest.raises(ConfigError, match="cannot be made"):
        write_file("my-own", tmp_path)
    with pytest.raises(ConfigError, match="There already is a method called 'sre2l'"):
        write_file("sre2l", tmp_path)


def test_the_command_does_not_import_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from guard_plugins.cli.plugins import main; "
        f"assert main(['new', 'mine', '--into', {str(tmp_path)!r}]) == 0; assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", ["my-2nd-method"])
def test_the_new_distribution_passes_its_own_tests_unchanged(name: str, tmp_path: Path) -> None:
    folder = write_plugin(name, tmp_path)
    env = installed(folder, tmp_path / "site")
    done = command("pytest", "-q", env=env, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout
    shown = command("guard_plugins.cli.run", "--method", name, "--help", env=env, cwd=tmp_path).stdout
    text = " ".join(shown.split())
    section = name.replace("_", "-")
    assert f"--{section}.iterations int Adam steps on the images (default: 200)" in text
    assert f"--{section}.start {{real,noise}} first iterate: random real images, or noise (default: real)" in text
