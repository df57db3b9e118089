"""A published set is checked by its own files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from guard_plugins.cli import eval as command
from guard_plugins.cli.eval_arguments import parse
from guard_plugins.cli.published_set import taken, verdict
from guard_plugins.config.presets import PRESETS
from guard_plugins.errors import ConfigError, DamagedError
from tests.pipeline.conftest import do_tiny_run
from tests.report.folders import model, write_run


def test_what_the_files_say_becomes_options_and_what_is_given_stays(tmp_path: Path) -> None:
    config = {"dataset": "digits", "seed": 3, "student": {"epochs": 7, "labels": "online"}, "teacher": {"network": "n"}}
    run = write_run(tmp_path / "run", config=config)
    (run / "distilled").mkdir(exist_ok=True)
    path, words = taken(["--set", str(run), "--seed=4", "--evaluation.gate=off"])
    assert path == run
    assert words[0] == f"--distilled={run}"
    assert {"--dataset=digits", "--student.epochs=7", "--student.network=n", "--seed=4"} <= set(words)
    assert "--seed=3" not in words
    assert taken(["net.pth"]) == (None, ["net.pth"])
    with pytest.raises(ConfigError, match="is not a whole published set") as caught:
        taken([f"--set={tmp_path}"])
    assert "config.yaml" in caught.value.seen


def test_students_of_a_teacher_that_did_not_come_along_are_not_compared_with_others(tmp_path: Path) -> None:
    for learned, there in (("soft", False), ("soft", True), ("hard", False)):
        run = write_run(tmp_path / f"{learned}{there}", config={"dataset": "digits"}, learned_from=learned)  # type: ignore[arg-type]
        (run / "distilled").mkdir(exist_ok=True)
        if there:
            (run / "teacher.safetensors").touch()
    with pytest.raises(ConfigError, match="learned from a teacher that is not there") as caught:
        taken(["--set", str(tmp_path / "softFalse")])
    assert caught.value.seen == "missing: teacher.safetensors"
    for given in (["softTrue"], ["hardFalse"], ["softFalse", "--teacher", "other.safetensors"]):
        assert taken(["--set", str(tmp_path / given[0]), *given[1:]])[0] == tmp_path / given[0]
    with pytest.raises(ConfigError, match="given twice"):
        taken(["--set", str(tmp_path / "softTrue"), f"--set={tmp_path / 'hardFalse'}"])


def test_a_damaged_report_is_said_before_students_are_trained(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", config={"dataset": "digits"})
    (run / "distilled").mkdir(exist_ok=True)
    (run / "report.json").write_text("{")
    with pytest.raises(DamagedError, match=r"report\.json is damaged"):
        taken(["--set", str(run)])


def test_students_under_the_hook_are_trained_so_again(tmp_path: Path) -> None:
    for own, length in ((None, 0.02), (0.03, 0.03)):
        student = {"guard_weight": 2.0, "guard_h_rms": own}
        run = write_run(tmp_path / str(own), config={"dataset": "digits", "student": student, "guard": {"h_rms": 0.02}})
        (run / "distilled").mkdir(exist_ok=True)
        _, words = taken(["--set", str(run)])
        assert {"--student.guard-weight=2.0", f"--student.guard-h-rms={length}"} <= set(words)


def test_students_that_match_features_are_trained_so_again_where_the_teacher_is_there(tmp_path: Path) -> None:
    for there in (True, False):
        run = write_run(tmp_path / str(there), config={"dataset": "digits", "student": {"feature_weight": 0.5}})
        (run / "distilled").mkdir(exist_ok=True)
        if there:
            (run / "teacher.safetensors").write_bytes(b"")
        _, words = taken(["--set", str(run)])
        assert ("--student.feature-weight=0.5" in words) is there


def test_numbers_agree_within_what_chance_explains(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", student=model(0.9, 0.8, 0.6, 0.3))
    good, lines = verdict(run, model(0.88, 0.75, 0.55, 0.35))
    assert good
    assert lines[0] == "agrees  clean: report 90.0, now 88.0"
    good, lines = verdict(run, model(0.88, 0.4, 0.55, 0.35))
    assert not good
    assert [line.split()[0] for line in lines] == ["agrees", "DIFFERS", "agrees", "agrees"]


def test_a_radius_that_is_not_measured_is_said(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", student=model(0.9, 0.8, 0.6, 0.3))
    now = model(0.9, 0.8, 0.6, 0.3)
    now.robust.pop()
    good, lines = verdict(run, now)
    assert good
    assert lines[-1].startswith("not measured ")
    assert lines[-1].endswith(": report 30.0")


def test_images_and_radii_are_those_of_the_card(tmp_path: Path) -> None:
    data = {"validation_per_class": 10, "train_per_class": 50, "range": [0.0, 65535.0], "skip_corrupt": True}
    evaluation = {"protocol": "pgd-5", "eps": [3.0, 0.5], "images": 40}
    config = {"dataset": "folder", "data": data, "evaluation": evaluation, "student": {"cutmix": 0.0}, "seed": 0}
    run = write_run(tmp_path / "run", config=config)
    (run / "distilled").mkdir(exist_ok=True)
    _, words = taken(["--set", str(run)])
    expected = {
        "--data.validation-per-class=10", "--data.train-per-class=50", "--data.range=0.0,65535.0",
        "--data.skip-corrupt", "--evaluation.eps=3.0,0.5", "--evaluation.images=40",
        "--student.cutmix=0.0", "--seed=0",
    }  # fmt: skip
    assert expected <= set(words)
    assert not [word for word in words if word.startswith("--data.reduced-decode")]
    request = parse(words)
    assert request.data.range == (0.0, 65535.0)
    assert request.data.skip_corrupt
    assert request.evaluation.eps == (3.0, 0.5)


@pytest.mark.parametrize("section", ["student", "teacher"])
@pytest.mark.parametrize("wrapped", [str, lambda name: [name], lambda name: ["resnet18", name], lambda name: {name: 1}])
def test_code_that_a_set_names_is_not_run(tmp_path: Path, section: str, wrapped: Callable[[str], Any]) -> None:
    code = tmp_path / "net.py"
    code.write_text("raise SystemExit('the code of the set ran')\n")
    network = wrapped(f"{code}:Net")
    run = write_run(tmp_path / "run", config={"dataset": "digits", section: {"network": network}})
    (run / "distilled").mkdir(exist_ok=True)
    with pytest.raises(ConfigError, match="is not run unasked") as caught:
        taken(["--set", str(run)])
    assert f"--student.network {network}" in caught.value.do
    for option in ("--student.network", "--student"):  # the second is its name in version 0.1
        _, words = taken(["--set", str(run), option, "small-resnet"])
        assert not [word for word in words if str(code) in word]


@pytest.mark.parametrize("name", PRESETS)
def test_sets_of_every_preset_are_taken(tmp_path: Path, name: str) -> None:
    config = {"dataset": "folder", "data_root": str(tmp_path), "preset": name, **PRESETS[name]}
    run = write_run(tmp_path / "run", config=config)
    (run / "distilled").mkdir(exist_ok=True)
    parse(taken(["--set", str(run)])[1])


def test_what_is_given_goes_before_the_cards_radii(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", config={"dataset": "digits", "evaluation": {"protocol": "pgd-20", "eps": [4.0]}})
    (run / "distilled").mkdir(exist_ok=True)
    for given in (["--evaluation.protocol", "quick"], ["--eps", "2"], ["--evaluation.eps=2"]):
        _, words = taken(["--set", str(run), *given])
        assert "--evaluation.eps=4.0" not in words
        parse(words)


def test_a_card_with_a_thing_in_place_of_a_setting_is_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", config={"dataset": ["digits", "folder"]})
    (run / "distilled").mkdir(exist_ok=True)
    with pytest.raises(ConfigError, match="dataset in its config"):
        taken(["--set", str(run)])


@pytest.mark.slow
def test_a_run_is_what_it_says_and_a_changed_report_is_found_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = do_tiny_run(tmp_path / "run", "random", evaluation={"gate": "off", "images": 50}, student={"epochs": 30})[1]
    assert command.main(["--set", str(run), "--evaluation.gate=off"]) == 0
    said = capsys.readouterr().out
    assert "DIFFERS" not in said
    assert "holds: no number differs by more than chance explains." in said
    shutil.copytree(run, tmp_path / "forged")
    report = json.loads((tmp_path / "forged/report.json").read_text())
    report["models"]["student"]["clean"] = 0.02
    (tmp_path / "forged/report.json").write_text(json.dumps(report))
    assert command.main(["--set", str(tmp_path / "forged"), "--evaluation.gate=off"]) == 1
    said = capsys.readouterr().out
    assert "DIFFERS clean: report 2.0" in said
    assert "does not hold: 1 of " in said
