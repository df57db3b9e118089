"""The experiments: plans, the runner with commands that only pretend, and the page made from the records."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
import textwrap
from pathlib import Path

import jinja2
import numpy as np
import pytest
import torch

from examples.experiments import front
from examples.experiments.answers import answer
from examples.experiments.differences import write_differences
from examples.experiments.plan import Experiment, Run, load
from examples.experiments.record import Record, landscape, machine
from examples.experiments.results import Results, difference, table, write_results
from examples.experiments.runner import Runner, records
from guard_plugins.artifacts.figures import About, Figures, save_figures
from guard_plugins.cli.arguments import parse
from tests.distributions import installed

HERE = Path(__file__).parents[2] / "examples/experiments"

PLANS = {
    "10-first": """
        chapter: hook
        title: First
        question: Which?
        command: guard-run --method sre2l --data-root {data}
        seeds: [0, 1]
        against: plain
        rows:
          plain: --no-guard
          hook, h 3: --guard.h 3
    """,
    "11-second": """
        chapter: attacks
        title: Second
        question: And then?
        command: guard-eval --distilled {first} --teacher {first:hook-h-3}/teacher.safetensors
        rows:
          plain: ""
    """,
}

#: Writes what the real commands would, or fails where the arguments say so; counts its calls.
PRETEND = """#!{python}
import json, pathlib, sys
arguments = sys.argv[1:]
with open({calls!r}, "a") as calls:
    calls.write(pathlib.Path(sys.argv[0]).name + " " + " ".join(arguments) + "\\n")
if "--no-guard" in arguments and pathlib.Path({broken!r}).exists():
    sys.exit(3)
seed = int(arguments[arguments.index("--seed") + 1]) if "--seed" in arguments else 0
gain = 0.0 if "--no-guard" in arguments else 0.1 + 0.02 * seed
curve = [dict(attack="pgd-20", norm="Linf", eps=e / 255, accuracy=0.4 + gain - e / 100, images=10) for e in (0, 1, 2)]
model = dict(clean=0.4 + gain, robust=curve)
gate = [dict(name="some check", verdict="failed" if seed else "passed", figure="")]
output = pathlib.Path(arguments[arguments.index("--output") + 1]) if "--output" in arguments else None
if output is None:
    output = pathlib.Path(arguments[arguments.index("--resume") + 1])
if "eval" in sys.argv[0]:
    curvature = dict(h=1, images=1, gradient_norm=1, along_gradient=1, eigenvalue=1)
    output.write_text(json.dumps(dict(subject=str(output.parent / "x"), kind="student", dataset="d", seed=seed,
        protocol="quick", guard=None, model=model, gate=gate, curvature=curvature, seconds=1.0)))
else:
    output.mkdir(exist_ok=True)
    (output / "config.yaml").write_text("")
    (output / "report.json").write_text(json.dumps(dict(method="sre2l", dataset="d", ipc=10, seed=seed,
        protocol="quick", guard=None, hook=None, seconds=dict(), gate=dict(student=gate),
        models=dict(teacher=None, student=model, student_hard=model))))
"""


@pytest.fixture
def plans(tmp_path: Path) -> list[Experiment]:
    folder = tmp_path / "plans"
    folder.mkdir()
    for name, text in PLANS.items():
        (folder / f"{name}.yaml").write_text(textwrap.dedent(text))
    return load(folder)


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runner:
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in ("guard-run", "guard-eval"):
        text = PRETEND.format(python=sys.executable, calls=str(tmp_path / "calls"), broken=str(tmp_path / "broken"))
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("examples.experiments.runner.POLL_SECONDS", 0.01)
    return Runner(tmp_path / "images", tmp_path / "work", tmp_path / "raw", jobs=2)


def every(plans: list[Experiment]) -> list[Run]:
    return [run for experiment in plans for run in experiment.runs()]


def calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text().splitlines()


def test_a_run_fills_in_images_and_the_folders_it_needs(plans: list[Experiment]) -> None:
    run = every(plans)[-1]
    assert run.name == "second/plain-0"
    assert run.needs() == ["first/plain-0", "first/hook-h-3-0"]
    assert run.command(Path("/images"), Path("/work")) == [
        "guard-eval", "--distilled", "/work/first/plain-0", "--teacher",
        "/work/first/hook-h-3-0/teacher.safetensors", "--seed", "0", "--output", "/work/second/plain-0.json",
    ]  # fmt: skip


def test_seeds_come_before_rows(plans: list[Experiment]) -> None:
    assert [run.name for run in plans[0].runs()] == [
        "first/plain-0", "first/hook-h-3-0", "first/plain-1", "first/hook-h-3-1",
    ]  # fmt: skip


def test_what_a_run_needs_is_done_first_and_nothing_twice(
    plans: list[Experiment], runner: Runner, tmp_path: Path
) -> None:
    known = every(plans)
    runner.do(known[-1:], known)
    assert [call.split()[0] for call in calls(tmp_path)] == ["guard-run", "guard-run", "guard-eval"]
    runner.do(known, known)
    assert len(calls(tmp_path)) == 5
    assert not runner.failed
    found = records(known, tmp_path / "raw")
    assert list(found) == [run.name for run in known]
    assert found["first/plain-1"].command == "guard-run --method sre2l --data-root {data} --no-guard --seed 1"
    assert str(tmp_path) not in "".join(path.read_text() for path in (tmp_path / "raw").rglob("*.json"))


def test_a_stopped_run_goes_on_and_a_finished_one_without_record_gets_one(
    plans: list[Experiment], runner: Runner, tmp_path: Path
) -> None:
    known = every(plans)
    (tmp_path / "work/first/plain-0").mkdir(parents=True)
    (tmp_path / "work/first/plain-0/config.yaml").write_text("")
    runner.do(known[:1], known)
    assert calls(tmp_path) == [f"guard-run --resume {tmp_path}/work/first/plain-0"]


def test_a_failed_run_fails_what_needs_it_and_nothing_else(
    plans: list[Experiment], runner: Runner, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken").touch()
    known = every(plans)
    runner.do(known, known)
    assert runner.failed == {"first/plain-0", "first/plain-1", "second/plain-0"}
    assert set(records(known, tmp_path / "raw")) == {"first/hook-h-3-0", "first/hook-h-3-1"}
    said = capsys.readouterr().err
    assert "first/plain-0: FAILED: exit code 3, see " in said
    assert "second/plain-0: FAILED: needs a run that failed" in said


def test_the_page_has_means_gains_and_the_gate_and_is_the_same_again(
    plans: list[Experiment], runner: Runner, tmp_path: Path
) -> None:
    known = every(plans)
    runner.do(known, known)
    shutil.copy(HERE / "RESULTS.md.j2", tmp_path)
    page = []
    for _ in range(2):
        write_results(tmp_path, plans, records(known, tmp_path / "raw"))
        page.append((tmp_path / "RESULTS.md").read_text() + (tmp_path / "figures/first.svg").read_text())
    assert page[0] == page[1]
    row = next(line for line in page[0].splitlines() if line.startswith("| hook, h 3 |"))
    half = 12.7062 * 0.02 * 100 / 2  # Student's t for two seeds, sd of 0.10 and 0.12 over the root of 2
    assert "| 2 | 51.0 ± 1.4 | 50.0 ± 1.4 | 49.0 ± 1.4 |" in row
    assert f"| +11.0 [{11 - half:+.1f}, {11 + half:+.1f}] | failed in 1 of 2: some check |" in row


def test_gains_are_those_of_the_smallest_radius_there_is(
    plans: list[Experiment], runner: Runner, tmp_path: Path
) -> None:
    known = every(plans)
    runner.do(known, known)
    for path in (tmp_path / "raw/first").iterdir():
        content = json.loads(path.read_text())
        for model in ("student", "student_hard"):
            robust = content["report"]["models"][model]["robust"]
            content["report"]["models"][model]["robust"] = [one for one in robust if round(one["eps"] * 255) != 1]
        path.write_text(json.dumps(content))
    results = Results({"first": plans[0]}, records(plans[0].runs(), tmp_path / "raw"))
    head, _, _, row = table(results, plans[0]).splitlines()
    assert "| gain over 'plain': 2/255 |" in head
    assert "| +11.0 [" in row


def test_an_answer_has_the_numbers_of_the_records_and_no_sentence_without(
    plans: list[Experiment], runner: Runner, tmp_path: Path
) -> None:
    known = every(plans)
    runner.do(known, known)
    said = [
        "{{ at('hook, h 3', 'plain', radii=(0, 1)) }}.",
        "{{ seeds('plain') }}: {{ level('plain', (0, 1)) }}.",
        "{{ mean('hook, h 3', 'teacher', 99) }}",
    ]
    asked = plans[0].model_copy(update={"answer": said})
    results = Results({plan.name: plan for plan in plans}, records(known, tmp_path / "raw"))
    gains = [results.gain("first", "hook, h 3", "plain", eps=eps) for eps in (0, 1)]
    means = [results.mean("first", "plain", eps=eps) for eps in (0, 1)]
    assert answer(results, asked) == [
        f"{gains[0]} clean, {gains[1]} at 1/255.",
        f"2 seeds: {means[0]} clean, {means[1]} at 1/255.",
    ]
    unproven = ["Yes.", "{{ mean('hook, h 3', 'teacher', 99) }}", "{{ level('plain', (0, 1)) }}"]
    assert answer(results, plans[0].model_copy(update={"answer": unproven})) == []
    nothing = Results({plan.name: plan for plan in plans}, {})
    assert answer(nothing, asked) == []
    with pytest.raises(jinja2.UndefinedError, match="'wrong' is undefined"):
        answer(results, plans[0].model_copy(update={"answer": ["{{ wrong('plain') }}"]}))


def test_every_difference_is_a_line_of_the_data_file(plans: list[Experiment], runner: Runner, tmp_path: Path) -> None:
    known = every(plans)
    runner.do(known, known)
    results = Results({plan.name: plan for plan in plans}, records(known, tmp_path / "raw"))
    write_differences(tmp_path / "differences.csv", results)
    with (tmp_path / "differences.csv").open(encoding="utf-8") as file:
        lines = {(one["row"], one["model"], one["eps"]): one for one in csv.DictReader(file)}
    line = lines["hook, h 3", "student", "1"]
    half = 12.7062 * 0.02 * 100 / 2
    assert (line["experiment"], line["against"], line["seeds"], line["difference"]) == ("first", "plain", "2", "+11.00")
    assert [float(line[name]) for name in ("low", "high")] == pytest.approx([11 - half, 11 + half], abs=0.006)
    assert not [key for key in lines if key[0] == "plain"]


def test_differences_of_one_seed_have_no_interval() -> None:
    assert (difference([]), difference([1.25]), difference([1.0, 1.0])) == ("–", "+1.2", "+1.0 [+1.0, +1.0]")


@pytest.mark.slow
def test_every_command_of_the_project_s_plans_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in (HERE.parent / "guard-dm", HERE.parent / "guard-features", HERE.parent / "guard-rded"):
        installed(folder, tmp_path)
        monkeypatch.syspath_prepend(folder / "src")
    monkeypatch.syspath_prepend(tmp_path)
    known = [run for experiment in load(HERE / "plans") for run in experiment.runs()]
    names = {run.name for run in known}
    assert len(names) == len(known)
    for run in known:
        assert set(run.needs()) <= names
        words = run.command(Path("/images"), Path("/work"))
        if words[0] == "guard-run":
            assert parse(words[1:]).config.seed == run.seed
        else:
            assert words[0] == "guard-eval"


def test_the_committed_page_is_what_the_records_give(tmp_path: Path) -> None:
    experiments = load(HERE / "plans")
    found = records([run for experiment in experiments for run in experiment.runs()], HERE / "raw")
    assert len(found) == len(list((HERE / "raw").rglob("*.json")))
    shutil.copy(HERE / "RESULTS.md.j2", tmp_path)
    write_results(tmp_path, experiments, found)
    for name in ("RESULTS.md", "differences.csv"):
        assert (tmp_path / name).read_text() == (HERE / name).read_text()


@pytest.mark.slow
@pytest.mark.parametrize("gone", ["sre2l/*-0.json", "images-or-labels/*-0.json", "autoattack/*", "*/hook-*"])
def test_the_page_can_be_made_while_records_are_away(tmp_path: Path, gone: str) -> None:
    experiments = load(HERE / "plans")
    shutil.copytree(HERE / "raw", tmp_path / "raw")
    shutil.copy(HERE / "RESULTS.md.j2", tmp_path)
    away = list((tmp_path / "raw").glob(gone))
    assert away
    for path in away:
        path.unlink()
    found = records([run for experiment in experiments for run in experiment.runs()], tmp_path / "raw")
    write_results(tmp_path, experiments, found)
    page = (tmp_path / "RESULTS.md").read_text()
    assert page.rstrip().endswith(".")
    assert f"{len(found)} runs." in page


def test_a_record_without_a_gate_is_not_called_passed(plans: list[Experiment], runner: Runner, tmp_path: Path) -> None:
    known = every(plans)
    runner.do(known[:1], known)
    path = tmp_path / "raw/first/plain-0.json"
    content = json.loads(path.read_text())
    content["report"]["gate"] = {}
    record = Record.model_validate(content)
    assert Results({"first": plans[0]}, {"first/plain-0": record}).gate("first", "plain") == "not run"


def test_a_landscape_is_the_mean_slice_along_the_gradient(tmp_path: Path) -> None:
    slices = np.arange(2 * 3 * 3, dtype=np.float32).reshape(2, 3, 3)  # example, along the gradient, across it
    about = About(classes=["a"], radii=[0.1], attack="pgd-20", h=0.5)
    examples = {"clean": np.zeros((1, 1, 2, 2), np.float32), "labels": np.zeros(1, np.int64)}
    save_figures(tmp_path / "figures.safetensors", Figures(about, {**examples, "student/slices": slices}))
    found = landscape(tmp_path / "figures.safetensors")
    assert list(found) == ["student"]
    assert found["student"].reach == 1.0
    assert found["student"].loss == [(1 + 10) / 2, (4 + 13) / 2, (7 + 16) / 2]


def test_the_page_shows_the_first_landscape_a_row_has(plans: list[Experiment], runner: Runner, tmp_path: Path) -> None:
    known = every(plans)
    runner.do(known, known)
    found = {name.replace("first/", "sre2l/"): one for name, one in records(known, tmp_path / "raw").items()}
    measured = {"h": 1.0, "images": 1, "gradient_norm": 1.25, "along_gradient": 0.5, "eigenvalue": 3.0}
    for seed in (0, 1):
        content = found[f"sre2l/plain-{seed}"].model_dump(mode="json")
        content["report"]["curvature"] = {"teacher": measured, "student": measured}
        content["landscape"] = {"student": {"reach": 1.0, "loss": [0.0, 1.0, 2.0]}} if seed else {}
        found[f"sre2l/plain-{seed}"] = Record.model_validate(content)
    shutil.copy(HERE / "RESULTS.md.j2", tmp_path)
    write_results(tmp_path, [plans[0].model_copy(update={"name": "sre2l"})], found)
    page = (tmp_path / "RESULTS.md").read_text()
    assert "| plain | 1.25 | 0.5 | 3 | 1.25 | 0.5 | 3 |" in page
    assert "| hook, h 3 | 1.25" not in page  # has none
    assert (tmp_path / "figures/landscape.svg").exists()


def test_rows_of_two_experiments_are_compared_seed_by_seed(
    plans: list[Experiment], runner: Runner, tmp_path: Path
) -> None:
    known = every(plans)
    runner.do(known, known)
    results = Results({plan.name: plan for plan in plans}, records(known, tmp_path / "raw"))
    assert results.gain("first", "plain", "plain", other="second") == "-10.0"  # of the one seed they share


def test_curvature_is_the_mean_over_seeds(plans: list[Experiment], runner: Runner, tmp_path: Path) -> None:
    known = every(plans)
    runner.do(known, known)
    found = records(known, tmp_path / "raw")
    for seed in (0, 1):
        content = found[f"first/plain-{seed}"].model_dump(mode="json")
        measured = {"h": 1.0, "images": 1, "gradient_norm": 1.0 + seed, "along_gradient": -seed, "eigenvalue": 3.0}
        content["report"]["curvature"] = {"student": measured}
        found[f"first/plain-{seed}"] = Record.model_validate(content)
    results = Results({plan.name: plan for plan in plans}, found)
    assert results.curvature("first", "plain", "student") == {"g": 1.5, "kappa": -0.5, "lambda": 3.0}
    assert results.where("first") == results.where("second")


def test_the_gpu_of_a_machine_is_named_where_runs_can_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")
    assert machine().startswith("Some GPU, ")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "GPU" not in machine()


def test_the_picture_of_the_readme_is_drawn_from_the_records(tmp_path: Path) -> None:
    rows = front.students(front.HERE / "raw")
    assert {row: len(models) for row, models in rows.items()} == {"hook": 5, "no hook": 5}
    front.draw(rows, tmp_path / "picture.svg")
    text = (tmp_path / "picture.svg").read_text()
    assert all(word in text for word in ("no hook", "accuracy, %", "mean ± sd over 5 seeds"))
    assert len(text) < 40_000
    assert front.PICTURE.is_file()
