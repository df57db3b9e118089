"""What guard-run says, lists and completes, and what it takes for a slip."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from guard_plugins.artifacts.report import Models, Report
from guard_plugins.cli import run
from guard_plugins.cli.arguments import command_parser, parse
from guard_plugins.cli.completion import script
from guard_plugins.cli.exit_codes import exit_code
from guard_plugins.cli.extras import Extras, take
from guard_plugins.errors import ConfigError
from guard_plugins.report.terminal import summary
from guard_plugins.runtime.monitor import Monitor
from guard_plugins.runtime.signals import StoppedError
from tests.report.folders import model


def test_the_options_are_taken_out_of_the_command_line() -> None:
    extras, rest = take(["cda", "--quiet", "--ipc", "3", "--seeds", "0-2,7", "--compare", "no-guard, fgsm-rs"])
    assert extras == Extras(level="quiet", seeds=(0, 1, 2, 7), compare=("no-guard", "fgsm-rs"))
    assert rest == ["cda", "--ipc", "3"]
    assert take(["cda"]) == (Extras(), ["cda"])
    assert take(["--verbose", "--stop-after=distill"])[0] == Extras(level="verbose", stop_after="distill")
    assert take(["--processes", "4"])[0] == Extras(processes=4)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["list"], "Did you mean guard-run --list"),
        (["--quiet", "--verbose"], "exclude each other"),
        (["--seeds", "4-"], "are no seeds"),
        (["--seeds", "3,3"], "names a seed twice"),
        (["--seeds", "5-3"], "or none"),
        (["--seeds", "0-5000"], "5001 runs"),
        (["--compare", "no-guard,"], "or nothing"),
        (["--compare", "no-guard", "--stop-after", "distill"], "leaves nothing to compare"),
        (["--stop-after", "report"], "invalid choice"),
        (["--processes", "0"], "'0' is no number of processes"),
        (["--processes=two"], "'two' is no number of processes"),
    ],
)
def test_slips_are_named(arguments: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        take(arguments)
    assert said in str(caught.value)


def test_resume_alone_takes_the_run_that_was_at_work_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="no run to resume in runs/"):
        take(["--resume"])
    for number, name in enumerate(("late", "early", "series/member")):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "config.yaml").touch()
        os.utime(tmp_path / "runs" / name / "config.yaml", (number, number))
    assert take(["--resume"])[1] == ["--resume=runs/series/member"]
    (tmp_path / "runs/late/events.jsonl").touch()
    assert take(["--resume", "--checkpoint-every", "9"])[1] == ["--resume=runs/late", "--checkpoint-every", "9"]
    assert take(["--resume", "here"])[1] == ["--resume", "here"]


def test_listing_names_methods_and_presets(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--list"]) == 0
    said = capsys.readouterr().out
    assert "sre2l" in said
    assert "tiny-imagenet" in said


def test_completion_knows_flags_methods_and_choices(tmp_path: Path) -> None:
    text = script("bash", command_parser()) + (
        'COMP_WORDS=(guard-run --method s); COMP_CWORD=2; _guard_run; echo "${COMPREPLY[@]}"\n'
        'COMP_WORDS=(guard-run --teacher.sch); COMP_CWORD=1; _guard_run; echo "${COMPREPLY[@]}"\n'
        'COMP_WORDS=(guard-run --student.activation ""); COMP_CWORD=2; _guard_run; echo "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == ["sre2l", "--teacher.schedule", "relu silu gelu"]
    assert script("zsh", command_parser()).startswith("autoload -U +X bashcompinit")
    fish = script("fish", command_parser()).splitlines()
    assert "complete -c guard-run -l teacher.schedule -x -a 'one-cycle cosine'" in fish
    assert "complete -c guard-run -l ipc" in fish


def test_levels_decide_what_the_terminal_gets_and_not_the_events(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for level, seen in (("quiet", ["loud"]), ("normal", ["loud", "plain"]), ("verbose", ["loud", "plain", "detail"])):
        events = tmp_path / level
        monitor = Monitor(events, level=level)  # type: ignore[arg-type]
        monitor.say("loud", at="quiet")
        monitor.say("plain")
        monitor.say("detail", at="verbose")
        assert capsys.readouterr().err.split() == seen
        assert events.read_text().count('"message"') == 3


def test_a_stop_says_how_to_continue(capsys: pytest.CaptureFixture[str]) -> None:
    def stopped() -> int:
        raise StoppedError(2, resume=Path("runs/my run"))

    assert exit_code(stopped) == 130
    assert capsys.readouterr().err == "Stopped. Continue with: guard-run --resume 'runs/my run'\n"


def test_the_table_of_a_terminal_has_every_model_and_radius() -> None:
    models = Models(teacher=None, student=model(0.9, 0.5, 0.4, 0.3), student_hard=model(0.8, 0.2, 0.1, 0.0))
    report = Report(
        method="m", dataset="d", ipc=1, seed=0, protocol="quick", guard=None, models=models, hook=None, seconds={}
    )
    lines = summary(report, width=100, names={}).splitlines()
    assert lines[0].startswith("Accuracy in percent")
    assert not any("teacher" in line for line in lines)
    (row,) = [line for line in lines if line.startswith(" student  ")]
    assert row.split()[1:5] == ["90.0", "50.0", "40.0", "30.0"]


@pytest.mark.slow
def test_a_word_comes_before_torch_does() -> None:
    command = [sys.executable, "-m", "guard_plugins", "noise", "--ipc", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("loading PyTorch ...\nerror: ")
    quiet = subprocess.run([*command, "--quiet"], capture_output=True, text=True, timeout=120, check=False)
    assert quiet.stderr.startswith("error: ")


@pytest.mark.slow
def test_images_alone_and_the_rest_later(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny = ["--ipc=1", "--teacher.epochs=1", "--student.epochs=2", "--evaluation.images=20"]
    assert run.main(["noise", *tiny, "--stop-after", "distill", f"--output={tmp_path / 'a'}"]) == 0
    said = capsys.readouterr()
    assert said.out == f"{tmp_path / 'a'}\n"
    assert f"stopped after distill; the rest: guard-run --resume {tmp_path / 'a'}" in said.err
    assert (tmp_path / "a/distilled").is_dir()
    assert not (tmp_path / "a/report.json").exists()
    assert run.main(["--resume", str(tmp_path / "a"), "--quiet"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("| model |")
    assert said.err == ""
    assert run.main(["noise", *tiny, "--quiet", f"--output={tmp_path / 'b'}"]) == 0
    one, two = ((tmp_path / name / "distilled/distilled.safetensors").read_bytes() for name in "ab")
    assert one == two
    assert parse([f"--resume={tmp_path / 'a'}"]).resume == tmp_path / "a"


@pytest.mark.parametrize(
    "part", [["--plan"], ["--resume", "RUN", "--shard", "0/2", "--stage", "distill"], ["--shard=0/2"]]
)
@pytest.mark.parametrize(
    "idle", [["--stop-after", "distill"], ["--seeds", "0-1"], ["--compare=no-guard"], ["--processes=2"]]
)
def test_a_plan_or_a_share_passes_over_no_option(part: list[str], idle: list[str]) -> None:
    with pytest.raises(ConfigError, match=f"{idle[0].split('=')[0]} would do nothing beside --(plan|shard)\\b"):
        take(["cda", *part, *idle])
    assert take(["cda", *part])[1][:1] == ["cda"]


def test_a_folder_of_several_runs_is_no_run_to_resume(tmp_path: Path) -> None:
    for name in ("sre2l-seed0", "sre2l-seed1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text("method: sre2l")
    with pytest.raises(ConfigError, match="give its command again") as caught:
        parse(["--resume", str(tmp_path)])
    assert str(tmp_path / "sre2l-seed0") in str(caught.value)
