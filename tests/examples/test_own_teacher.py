"""The path of a newcomer: own network and loop, the hook, a teacher's file, a run from it, an evaluation."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from types import ModuleType

import pytest

from guard_plugins.artifacts.teacher import read_card
from guard_plugins.cli import eval as eval_command
from guard_plugins.cli import run as run_command

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_teacher.py"
RUN = ["--method", "sre2l", "--teacher", "mine.safetensors", "--teacher.network", "own_teacher.py:Net"]
SMALL = ["--ipc", "1", "--recover.iterations", "5", "--student.epochs", "3", "--evaluation.images", "20"]


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    shutil.copy(EXAMPLE, tmp_path)
    monkeypatch.chdir(tmp_path)
    spec = importlib.util.spec_from_file_location("own_teacher", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_own_loop_to_evaluation(example: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    example.main(epochs=4)
    assert "under PGD-20" in capsys.readouterr().out
    card = read_card(Path("mine.safetensors"))
    assert (card.network, card.image_shape, card.training) == ("own_teacher.py:Net", (1, 8, 8), "plain")
    assert card.guard is not None
    assert card.guard["h_rms"] == 16 / 255
    assert card.hook is not None
    assert card.hook.regularised_steps == card.hook.steps > 0
    assert run_command.main([*RUN, *SMALL, "--output", "runs/mine"]) == 0
    report = json.loads(Path("runs/mine/report.json").read_text())
    assert report["models"]["teacher"]["clean"] > 0.5
    assert report["guard"] == card.guard
    fast = ["--student.epochs", "2", "--evaluation.protocol", "fgsm", "--evaluation.images", "20"]
    assert eval_command.main(["--distilled", "runs/mine", "--student.network", "convnet3", *fast]) == 0
    assert capsys.readouterr().out.count("student") >= 2


def test_code_is_imported_only_where_it_is_named(example: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    example.main(epochs=1)
    Path("own_teacher.py").write_text("raise SystemExit('this must not run')")
    capsys.readouterr()
    assert run_command.main(["--method", "sre2l", "--teacher", "mine.safetensors", *SMALL]) == 2
    assert "--teacher.network own_teacher.py:Net" in capsys.readouterr().err
    assert eval_command.main(["mine.safetensors"]) == 2
    assert "Add --teacher.network own_teacher.py:Net" in capsys.readouterr().err
    assert not Path("runs").exists()


@pytest.mark.parametrize("line", ["guard-run --method sre2l --teacher mine.safetensors --teacher.network"])
def test_the_commands_are_those_of_the_docstring(line: str) -> None:
    text = EXAMPLE.read_text()
    assert line in text
    assert "guard-eval --distilled runs/mine --student.network convnet3" in text
