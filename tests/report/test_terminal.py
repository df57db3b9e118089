"""What the commands print of a comparison."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from guard_plugins.report.comparison import Comparison, compare
from guard_plugins.report.json_export import as_markdown
from guard_plugins.report.runs import load_run
from guard_plugins.report.terminal import outcome
from tests.report.folders import GUARD, model, write_run


@pytest.fixture
def two(tmp_path: Path) -> Comparison:
    """The hook and no hook, two seeds each."""
    hook = [model(0.9, 0.8, 0.7, 0.61), model(0.92, 0.84, 0.74, 0.63)]
    plain = [model(0.88, 0.7, 0.4, 0.1), model(0.9, 0.74, 0.42, 0.12)]
    folders = []
    for name, guard, students in (("hook", GUARD, hook), ("plain", None, plain)):
        for seed, student in enumerate(students):
            config = {"seed": seed}
            folders.append(
                write_run(tmp_path / f"{name}{seed}", seed=seed, guard=guard, student=student, config=config)
            )
    return compare([load_run(folder) for folder in folders])


def test_markdown_has_the_first_sentences_and_the_students_alone(two: Comparison) -> None:
    lead, finding, title, *rows = outcome(two, width=None).replace("\n\n", "\n").split("\n")
    assert "students of 'sre2l, hook' are right most often" in lead
    assert finding.startswith("* sre2l, hook, against 'sre2l, no hook'")
    assert title == "Right, in percent of 100 test images, under PGD-20 (L∞) at growing ε"
    assert rows == [
        "| students of | clean | ε = 1/255 | ε = 4/255 | ε = 16/255 |",
        "| --- | --- | --- | --- | --- |",
        "| sre2l, hook | 91.0 ± 1.4 | 82.0 ± 2.8 | **72.0 ± 2.8** | **62.0 ± 1.4** |",
        "| sre2l, no hook | 89.0 ± 1.4 | 72.0 ± 2.8 | 41.0 ± 1.4 | 11.0 ± 1.4 |",
    ]


def test_a_terminal_is_filled_and_not_passed(two: Comparison) -> None:
    text = outcome(two, width=60)
    assert max(map(len, text.splitlines())) <= 60
    assert "sre2l, hook     91.0±1.4  82.0±2.8  72.0±2.8  62.0±1.4" in text
    assert "**" not in text


def test_a_narrow_terminal_has_the_means_alone(two: Comparison) -> None:
    text = outcome(two, width=36)
    assert max(map(len, text.splitlines())) <= 36
    assert "means" in text.partition("Right, in")[2]
    assert "…" not in text
    rows = text.split("─")[-1]
    assert re.findall(r"\d+\.\d", rows) == ["91.0", "82.0", "72.0", "62.0", "89.0", "72.0", "41.0", "11.0"]


def test_names_are_no_markup(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / name) for name in ("a[old]", "a[new]")]
    text = outcome(compare([load_run(folder) for folder in folders]), width=100)
    assert "a[old]" in text.split("─")[-1]
    assert "a[new]" in text.split("─")[-1]


def test_a_command_that_made_several_runs_is_printed_once(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / str(seed), seed=seed, config={"seed": seed}) for seed in (0, 1, 2)]
    for folder, words in zip(folders, (["--seeds", "0-1"], ["--seeds", "0-1"], ["--seed", "2"]), strict=True):
        manifest = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_text(json.dumps({**manifest, "command": ["/bin/guard-run", *words]}))
    told = as_markdown(compare([load_run(folder) for folder in folders])).split("## Commands\n\n")[1]
    assert told == (
        "sre2l, no hook, seed 0; sre2l, no hook, seed 1:\n\n    guard-run --seeds 0-1\n\n"
        "sre2l, no hook, seed 2:\n\n    guard-run --seed 2\n"
    )
