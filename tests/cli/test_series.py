"""Several runs in one command."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from guard_plugins.artifacts.report import read_report
from guard_plugins.cli import run
from guard_plugins.cli.arguments import parse
from guard_plugins.cli.extras import Extras, take
from guard_plugins.cli.series import Member, _begun, _members, run_series
from guard_plugins.errors import ConfigError, TrainingError

TINY = ["--ipc=1", "--teacher.epochs", "1", "--student.epochs=2", "--evaluation.images=20", "--evaluation.gate=off"]


def planned(arguments: list[str], **extras: object) -> dict[str, object]:
    first = parse(arguments)
    members = _members(arguments, Extras(**extras), first, Path("all"))  # type: ignore[arg-type]
    return {member.name: member.request.config for member in members}


def test_every_seed_has_a_run_and_every_rival_one_beside_it() -> None:
    runs = planned(["sre2l", "--seed", "9", "--ipc=3", "--output", "x"], seeds=(0, 4), compare=("no-guard", "fgsm-rs"))
    assert list(runs) == [f"{name}-seed{seed}" for seed in (0, 4) for name in ("sre2l", "no-guard", "fgsm-rs")]
    found = {
        name: (config.seed, config.no_guard, config.teacher.training, config.ipc, str(config.output))  # type: ignore[attr-defined]
        for name, config in runs.items()
    }
    assert found["sre2l-seed4"] == (4, False, "plain", 3, "all/sre2l-seed4")
    assert found["no-guard-seed0"] == (0, True, "plain", 3, "all/no-guard-seed0")
    assert found["fgsm-rs-seed4"] == (4, False, "fgsm-rs", 3, "all/fgsm-rs-seed4")


def test_another_method_takes_the_teacher_that_it_would_train_itself() -> None:
    runs = planned(["--method", "sre2l", "--teacher.epochs", "2", "--seed=3"], compare=("random", "dc"))
    random, dc = runs["random-seed3"], runs["dc-seed3"]
    assert (random.method, str(random.teacher.path)) == ("random", "all/sre2l-seed3/teacher.safetensors")  # type: ignore[attr-defined]
    assert (dc.method, dc.teacher.path) == ("dc", None)  # type: ignore[attr-defined]


def members(arguments: list[str], *compare: str) -> dict[str, Member]:
    found = _members(arguments, Extras(compare=compare), parse(arguments), Path("all"))
    return {member.name.removesuffix("-seed0"): member for member in found}


def test_a_rival_gets_the_options_it_has_and_the_others_are_named() -> None:
    own = ["--recover.iterations", "7", "--recover.start=real", "--guard.weight", "2", "--student.epochs=3"]
    found = members(["sre2l", *own, "--teacher.epochs", "5"], "cda", "dc", "random", "no-guard", "fgsm-rs")
    cda: Any = found["cda"].request.config
    assert (cda.recover.iterations, cda.recover.start, cda.student.epochs) == (7, "real", 3)
    assert found["cda"].left_out == ()
    dc: Any = found["dc"].request.config
    assert (dc.method, dc.student.epochs, dc.guard.weight) == ("dc", 3, 2)
    assert found["dc"].left_out == ("--recover.iterations", "--recover.start")
    assert found["random"].left_out == ("--recover.iterations", "--recover.start")
    assert found["no-guard"].left_out == found["fgsm-rs"].left_out == ("--guard.weight",)
    said = "no-guard-seed0 (without --guard.weight, which it does not use)"
    assert found["no-guard"].announcement == said
    assert found["sre2l"].announcement == "sre2l-seed0"


def test_a_rival_says_what_its_own_teacher_is_not_trained_with() -> None:
    found = members(["sre2l", "--teacher.label-smoothing", "0.1", "--teacher.ema=0.9"], "fgsm-rs", "random", "no-guard")
    assert found["fgsm-rs"].left_out == ("--teacher.label-smoothing",)
    assert found["random"].left_out == found["no-guard"].left_out == ()
    rival: Any = found["fgsm-rs"].request.config
    assert rival.teacher.ema == 0.9


def test_a_file_of_settings_is_read_for_every_rival(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("method: sre2l\nipc: 3\nrecover: {iterations: 7}\n")
    found = members([f"--config={file}"], "dc")
    dc: Any = found["dc"].request.config
    assert (dc.method, dc.ipc) == ("dc", 3)


def test_the_first_run_may_not_hold_what_does_nothing() -> None:
    with pytest.raises(ConfigError, match="would do nothing"):
        members(["sre2l", "--no-guard", "--guard.weight", "2"], "random")


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ConfigError, match="nothing called 'noguard'") as caught:
        planned(["sre2l"], compare=("noguard",))
    assert "Did you mean 'no-guard'" in caught.value.do


@pytest.mark.parametrize("given", [["--seed", "3"], ["--seed=3"]])
def test_one_seed_beside_several_is_refused(given: list[str]) -> None:
    with pytest.raises(ConfigError, match="--seed would do nothing"):
        take(["sre2l", "--seeds", "0-1", *given])
    assert take(["sre2l", "--compare", "random", *given])[1] == ["sre2l", *given]


@pytest.mark.slow
def test_a_series_compares_its_runs_and_goes_on_where_it_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "all"
    command = ["random", *TINY, "--seeds", "0-1", "--compare", "noise", f"--output={output}", "--quiet"]
    assert run.main(command) == 0
    said = capsys.readouterr()
    assert said.out.endswith(f"comparison: {output / 'compare.html'}\n")
    assert re.search(r"\n\| students of .*\n\| ---.*\n\| random, hook .* ± .*\n\| noise, hook ", said.out)
    assert "run 4 of 4: noise-seed1" in said.err
    reports = {path.parent.name: read_report(path) for path in output.glob("*/report.json")}
    assert set(reports) == {"random-seed0", "noise-seed0", "random-seed1", "noise-seed1"}
    assert reports["noise-seed1"].models.teacher == reports["random-seed1"].models.teacher
    assert reports["random-seed0"].models.teacher != reports["random-seed1"].models.teacher
    assert "±" in (output / "compare.md").read_text()
    before = (output / "random-seed0/report.json").stat().st_mtime_ns
    (output / "compare.html").unlink()
    assert run.main(command) == 0
    assert (output / "random-seed0/report.json").stat().st_mtime_ns == before
    assert (output / "compare.html").exists()
    with pytest.raises(ConfigError, match="runs of their own"):
        run_series(["--resume", str(output / "random-seed0")], Extras(seeds=(1,)))


def test_a_page_that_is_not_a_comparisons_is_seen_before_the_first_run(tmp_path: Path) -> None:
    (tmp_path / "compare.html").write_text("mine")
    with pytest.raises(ConfigError, match=r"compare\.html is there already"):
        run_series(["noise", *TINY, f"--output={tmp_path}"], Extras(seeds=(0, 1)))
    assert [path.name for path in tmp_path.iterdir()] == ["compare.html"]


@pytest.mark.parametrize("rival", ["pgd", "fgsm-rs"])
def test_an_objective_of_teachers_is_no_rival_of_a_method_without_one(rival: str) -> None:
    with pytest.raises(ConfigError, match=f"--compare {rival} is for a teacher, and the method dc has none"):
        planned(["dc", "--output", "x"], compare=(rival,))


@pytest.mark.parametrize(("other", "said"), [("--ipc=2", "--ipc: 1 there, 2 here"), ("--no-guard", "--no-guard")])
def test_a_series_given_again_with_other_settings_does_not_show_the_old_runs_as_theirs(
    other: str, said: str, tmp_path: Path
) -> None:
    given = ["random", *TINY, f"--output={tmp_path}"]
    begun = tmp_path / "random-seed1"
    begun.mkdir()
    config = _members(given, Extras(seeds=(1,)), parse(given), tmp_path)
    text = yaml.safe_dump(next(iter(config)).request.config.model_dump(mode="json"))
    (begun / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match="random-seed1 began with other settings") as caught:
        run_series([*(word for word in given if word != "--ipc=1"), other], Extras(seeds=(0, 1)))
    assert said in caught.value.seen
    assert "another --output" in caught.value.do
    assert [path.name for path in tmp_path.iterdir()] == ["random-seed1"]


def test_a_series_goes_on_from_another_spelling_of_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = ["sre2l", "--output=all", "--teacher.cache=one"]
    for member in _members(given, Extras(compare=("random",)), parse(given), Path("all")):
        path = Path("all") / member.name
        path.mkdir(parents=True)
        (path / "config.yaml").write_text(yaml.safe_dump(member.request.config.model_dump(mode="json")))
    again = [f"--output={tmp_path}/all", "--method=sre2l", "--teacher.cache", "two"]
    for member in _members(again, Extras(compare=("random",)), parse(again), tmp_path / "all"):
        found = _begun(tmp_path / "all" / member.name, member, again)
        assert found is not None
        cache = found.config.teacher.cache
        assert cache == (Path("two") if member.name.startswith("sre2l") else None)
        assert found.resume == tmp_path / "all" / member.name
    fresh = Member("fresh", parse(given))
    assert _begun(tmp_path / "all/fresh", fresh, again) is None


def test_a_series_that_has_moved_goes_on_there(tmp_path: Path) -> None:
    def members(folder: Path) -> Iterator[Member]:
        given = ["sre2l", f"--output={folder}"]
        return _members(given, Extras(compare=("random", "no-guard")), parse(given), folder)

    for member in members(tmp_path / "before"):
        path = tmp_path / "before" / member.name
        path.mkdir(parents=True)
        (path / "config.yaml").write_text(yaml.safe_dump(member.request.config.model_dump(mode="json")))
    (tmp_path / "before").rename(tmp_path / "after")
    assert all(_begun(tmp_path / "after" / member.name, member, []) for member in members(tmp_path / "after"))


def test_the_method_itself_is_no_rival(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="sre2l is the method itself"):
        planned(["sre2l", f"--output={tmp_path}"], compare=("sre2l",))


def test_a_series_that_cannot_begin_leaves_no_folder_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run.main(["random", "--seeds", "0-1", "--compare", "nonsense"]) == 2
    assert not list(tmp_path.glob("runs/*"))


def test_a_mistake_in_the_last_run_is_found_before_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "all"
    command = ["sre2l", *TINY, "--ipc=3", "--data.train-per-class=2", "--seeds=0-1", "--compare=no-guard,random"]
    assert run.main([*command, f"--output={output}"]) == 2
    said = capsys.readouterr().err
    assert "fewer than --ipc asks for" in said
    assert "run 1 of" not in said
    assert not output.exists()


def test_a_series_whose_run_fails_says_what_is_left_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from guard_plugins.pipeline import run as runs

    done: list[str] = []

    def start(config: Any, **_: Any) -> Any:
        if len(done) == 2:
            raise TrainingError("The loss is no number")
        done.append(config.output.name)
        return runs.Done(config.output, None)

    monkeypatch.setattr(runs, "start", start)
    output = tmp_path / "all"
    assert run.main(["noise", *TINY, "--seeds", "0-2", f"--output={output}", "--quiet"]) == 1
    assert capsys.readouterr().err.endswith(
        f"run 3 of 3 failed, 2 before it are finished; to compare what is finished: guard-report {output}/noise-seed0 "
        f"{output}/noise-seed1 --output PAGE.html. The same command, with the same --output, goes on with it.\n"
        "error: The loss is no number\n"
    )
