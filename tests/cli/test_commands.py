"""The commands as a shell sees them: output, exit codes, speed of the listings."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from guard_plugins._version import __version__
from guard_plugins.cli import plugins, run


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--method", "sre3l"],
        ["--method", "noise", "--ipc", "0"],
        ["--method", "noise", "--guard.h-rms", "-1"],
        ["--method", "noise", "--guard.h", "1", "--guard.h-rms", "1"],
        ["--method", "noise", "--nonsense", "1"],
        ["--method", "noise", "--config", "missing.yaml"],
        ["--method", "noise", "--dataset", "nope"],
        ["--method", "noise", "--dataset", "folder", "--data-root", "/no/such/folder"],
        ["--method", "noise", "--output", "/proc/nope"],
        ["--method", "noise", "--evaluation.protocol", "nope"],
        ["--method", "noise", "--teacher", "missing.safetensors"],
        ["--method", "noise", "--teacher.network", "resnet19"],
        ["--method", "sre2l", "--teacher.network", "convnet3"],
        ["--method", "noise", "--device", "cuda"],
    ],
)
def test_bad_input_ends_with_code_2_and_one_message(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert run.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.count("error: ") == 1
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_a_folder_that_holds_a_run_is_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "report.json").write_text("{}")
    assert run.main(["--method", "noise", "--output", str(tmp_path)]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert (tmp_path / "report.json").read_text() == "{}"


def test_print_config_prints_what_a_file_may_hold(capsys: pytest.CaptureFixture[str]) -> None:
    import yaml

    assert run.main(["--method", "sre2l", "--ipc", "3", "--print-config"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert (printed["method"], printed["ipc"]) == ("sre2l", 3)
    assert printed["recover"]["iterations"] > 0


def test_help_of_a_method_describes_its_own_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run.main(["--method", "sre2l", "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "--recover.iterations" in text
    assert "weight of the BatchNorm statistics loss" in text
    words = " ".join(text.split())
    assert "in pixels of [0, 1] (default: 0.03137)" in words
    assert "(default: as they are) --data.train-per-class" in words
    assert "None" not in words


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            [],
            ["(ImageNet-1k: 0.25) (default: 0.1)", "passes over the training images (default: 10)", "preset digits."],
        ),
        (["--preset=fast"], ["passes over the distilled images (default: 400)", "place of MixUp (default: 1.0)"]),
        (["--dataset", "cifar10"], ["training images (default: 200)", "per pixel in [0, 1] (default: 0.01098)"]),
        (["--preset", "nope"], ["training images (default: 30)"]),
        (["--dataset", "folder"], ["training images (default: 30)", "The defaults are those of the method sre2l."]),
    ],
)
def test_help_has_the_defaults_that_hold_for_the_data_set_or_preset(
    asked: list[str], said: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run.main(["--method", "sre2l", *asked, "--help"])
    words = " ".join(capsys.readouterr().out.split())
    assert [one for one in said if one not in words] == []
    assert "None" not in words


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--version"]) == 0
    assert capsys.readouterr().out == f"guard-run {__version__}\n"


def test_listing_and_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert plugins.main(["--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["sre2l"] == {
        "name": "sre2l", "distribution": "guard-plugins", "version": __version__, "status": "enabled",
    }  # fmt: skip
    assert plugins.main(["--check"]) == 0
    text = capsys.readouterr().out
    assert "ok" in text
    assert "train_teacher" in text


def test_a_command_that_is_none_is_named_with_the_one_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        plugins.main(["nwe"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "[COMMAND ...]\n" in said
    assert re.search("argument COMMAND: invalid choice: 'nwe' .choose from '?new'?", said)
    with pytest.raises(SystemExit):
        plugins.main(["new"])
    assert capsys.readouterr().err.startswith("usage: guard-plugins new [-h] [--into DIR] [--file] NAME\n")


@pytest.mark.parametrize(
    "code",
    [
        "from guard_plugins.cli.plugins import main; main([])",
        "from guard_plugins.cli.run import main; main(['--version'])",
        "from guard_plugins.cli.run import main\ntry: main(['--help'])\nexcept SystemExit: pass",
        "from guard_plugins.cli.run import main; main([])",
        "from guard_plugins.cli.run import main; main(['--method', 'sre3l'])",
    ],
)
def test_listings_and_help_do_not_import_torch(code: str) -> None:
    check = f"import sys\n{code}\nassert 'torch' not in sys.modules, 'torch was imported'"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_list_of_plugins_needs_neither_settings_nor_multiprocessing() -> None:
    check = (
        "import sys\nfrom guard_plugins.cli.plugins import main\nmain([])\n"
        "found = {'pydantic', 'asyncio', 'multiprocessing'} & sys.modules.keys()\nassert not found, found"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["dc", "--match.strategy", "nonsense", "--match.augment", "dsa"],
            "--match.strategy: no augmentation is",
        ),
        (["dc", "--match.network", "nonsense"], "(--match.network)"),
        (["sre2l", "--student.labels", "own"], "(--student.labels own)"),
        (["dc", "--student.labels", "stored"], "(--student.labels)"),
        (["sre2l", "--evaluation.protocol", "nonsense"], "no protocol called 'nonsense'"),
    ],
)
def test_what_a_run_would_refuse_is_not_printed(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.main(["--method", *arguments, "--print-config"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err
