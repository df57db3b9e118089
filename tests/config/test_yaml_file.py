"""YAML from anywhere: values, or one error within a moment."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml

from guard_plugins import configure
from guard_plugins.cli.arguments import parse
from guard_plugins.config.yaml_file import read_yaml
from guard_plugins.errors import ConfigError


def bomb(levels: int, *, merging: bool = False) -> str:
    """Return a file that grows ninefold with every level once its aliases are written out."""
    inner = "{{<<: [{}]}}" if merging else "[{}]"
    first = "a0: &a0 {x: 1}\n" if merging else "a0: &a0 [x]\n"
    return first + "".join(f"a{n}: &a{n} {inner.format(', '.join([f'*a{n - 1}'] * 9))}\n" for n in range(1, levels))


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("a: 1\na: 2", "'a' is there twice"), ("a: {b: 1, b: 2}", "'b' is there twice"), ("[" * 90_000, "levels deep"),
        ("- " * 40_000, "levels deep"), (bomb(10), "with its aliases"), (bomb(10, merging=True), "with its aliases"),
        ("a: &a [*a]", "contains itself"), ("a: &a {b: {c: *a}}", "contains itself"),
        ("n: " + "9" * 5000, "4300 digits"),
        ("n: 0x" + "f" * 5000, "too many digits"), ("n: " + "1:" * 5000 + "1", "too many digits"),
        ("d: 2020-13-45", "month must be"), ("x: " + "y" * 100_000, "characters"),
        ("b: !!bool maybe", "cannot be read"),
        ("t: !!timestamp soon", "cannot be read"), ("i: !!int ''", "cannot be read"), ("? [a]\n: 1", "unhashable"),
        ("x: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("[" + "a," * 20_000 + "]", "3,000 values"),
    ],
)  # fmt: skip
def test_hostile_yaml_is_refused_at_once(text: str, seen: str, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    begin = time.process_time()
    with pytest.raises((yaml.YAMLError, ValueError)) as caught:
        read_yaml(file)
    assert seen in str(caught.value)
    with pytest.raises(ConfigError, match="cannot be read"):
        parse(["--method", "noise", "--config", str(file)])
    assert time.process_time() - begin < 10


def test_ordinary_yaml_with_aliases_is_what_pyyaml_reads(tmp_path: Path) -> None:
    text = (
        "base: &base {epochs: 3, lr: 0.1}\nteacher: {<<: *base, epochs: 4}\nlist: [&x 1, *x, 2.5, null, ~, true, 'é']\n"
    )
    (tmp_path / "x.yaml").write_text(text, encoding="utf-8")
    assert read_yaml(tmp_path / "x.yaml") == yaml.safe_load(text)
    assert read_yaml(tmp_path / "x.yaml")["teacher"] == {"epochs": 4, "lr": 0.1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ipc: true", "--ipc: a number is needed, got true"),
        ("teacher: {lr: false}", "--teacher.lr: a number is needed"),
        ("data: {image_size: true}", "--data.image-size"), ("no_guard: 2", "--no-guard"),
        ('output: "a\\0b"', "NUL"), ("output: ~nosuchuser/x", "the home folder of ~nosuchuser is not known"),
        ("teacher: {path: " + "x" * 300 + "}", "255 bytes"), ("data_root: " + "x/" * 3000, "a path 4000"),
        ("data: {image_size: 1000000}", "less than or equal to 4096"),
    ],
)  # fmt: skip
def test_values_that_cannot_be_are_named(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        parse(["--method", "noise", "--config", str(file)])
    assert message in str(caught.value)


def test_true_is_no_number_from_python_either_but_a_choice_where_one_is_meant() -> None:
    with pytest.raises(ConfigError, match="--seed: a number is needed"):
        configure("noise", seed=True)
    assert configure("noise", no_guard=True).no_guard


@pytest.mark.parametrize(
    ("arguments", "message", "remedy"),
    [
        (["--student", "convnet3"], "--student is a group of options", "Did you mean --student.network convnet3?"),
        (["--evaluation=standard"], "--evaluation is a group", "Did you mean --evaluation.protocol standard?"),
        (["--guard", "2"], "--guard is a group", "--guard.h-rms"),
        (["--data"], "--data is a group", "--data.image-size"),
        (["--student", '{"epochs": 1}'], "--student is a group", "--student.network"),
    ],
)
def test_a_value_for_a_section_names_the_option_meant(arguments: list[str], message: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(["--method", "noise", *arguments])
    assert message in caught.value.what
    assert remedy in caught.value.do
