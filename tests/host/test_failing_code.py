"""Code of plugins that fails or leaves the process changed while a run is at work: it is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from guard_plugins.cli import run

METHOD = """
import torch
from guard_plugins import DistilledSet, Method
class Own(Method):
    name, summary = "own", "a test"
    {more}
    def distill(self, task, teacher):
        {first}
        labels = torch.arange(task.classes).repeat_interleave(task.ipc)
        images = torch.rand((len(labels), *task.data.image_shape), generator=task.seeds.generator("own"))
        {last}
        return DistilledSet(images.float(), labels)
"""
NETWORK = """
import torch
from torch import nn
from guard_plugins.networks.base import Network
class Own(Network):
    name, summary = "own-net", "a test"
    def build(self, request):
        {body}
"""
TINY = [
    "--ipc=1", "--teacher.epochs=1", "--student.epochs=1", "--evaluation.images=20", "--evaluation.gate=off",
    "--processes=1",
]  # fmt: skip


def method(more: str = "", first: str = "", last: str = "") -> str:
    return METHOD.format(more=more or "pass", first=first or "pass", last=last or "pass")


def done(tmp_path: Path, source: str, *arguments: str) -> int:
    path = tmp_path / "own.py"
    path.write_text(source, encoding="utf-8")
    return run.main([f"--plugin={path}", *TINY, f"--output={tmp_path / 'run'}", *arguments])


@pytest.mark.parametrize(
    ("source", "doing"),
    [
        (method(last="import sys; sys.exit(0)"), "distill: SystemExit: 0"),
        (method(more="def check(self, task, teacher): raise SystemExit(3)"), "check: SystemExit: 3"),
        (method(more="def __init__(self, config): exit()"), "its constructor: SystemExit"),
    ],
    ids=["distill", "check", "constructor"],
)
def test_a_method_that_exits_is_named(
    source: str, doing: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert done(tmp_path, source, "--method=own") == 1
    said = capsys.readouterr().err
    assert f"failed in {doing}" in said
    assert "own.py" in said


@pytest.mark.parametrize("line", ["torch.set_default_dtype(torch.float64)", "torch.set_grad_enabled(False)"])
def test_what_distill_switches_is_put_back(line: str, tmp_path: Path) -> None:
    assert done(tmp_path, method(last=line), "--method=own") == 0
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    "more",
    ["def idle(self, config): return {}", "@classmethod\n    def idle(cls, config): return ['x.y']"],
    ids=["no classmethod", "a list"],
)
def test_wrong_words_on_idle_options_name_the_method(
    more: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert done(tmp_path, method(more=more), "--method=own") == 1
    said = capsys.readouterr().err
    assert "The method 'own' does not say which of its options do nothing" in said
    assert "a classmethod that returns reasons by option" in said


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return nn.Sequential(nn.Flatten(), nn.Linear(64, request.classes + 1))", "not with shape (2, 11)"),
        ("return nn.Flatten()", "it has no weights that can be trained"),
        ("return nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).requires_grad_(False)", "no weights that can be"),
        ("return nn.Conv2d(1, 10, 3)", "not with shape (2, 10, 6, 6)"),
        ("return nn.Sequential(nn.Flatten(), nn.Linear(64, 10).double())", "RuntimeError"),
        ("return nn.LSTM(8, 10)", "failed in its network: ValueError"),
    ],
    ids=["classes", "no weights", "frozen", "maps", "double", "sequences"],
)
def test_a_network_that_cannot_answer_is_refused_before_work_begins(
    body: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = NETWORK.format(body=body)
    assert done(tmp_path, source, "--method=random", "--teacher.network=own-net") != 0
    error = capsys.readouterr().err
    assert said in error
    assert "'own-net'" in error
    assert not (tmp_path / "run").exists()


def test_a_data_set_that_loads_nothing_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = (
        "from guard_plugins.data.base import DataSet\nclass D(DataSet):\n    name, summary = 'none', 'a test'\n"
        "    def load(self, request): return None\n"
    )
    assert done(tmp_path, source, "--method=random", "--dataset=none") == 1
    said = capsys.readouterr().err
    assert "'none'" in said
    assert "it must return a Data, not NoneType" in said


def test_a_folder_that_distill_enters_is_left_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    path = tmp_path / "own.py"
    path.write_text(method(last="import os; os.chdir('other')"), encoding="utf-8")
    assert run.main(["--method=own", "--plugin=own.py", *TINY, "--output=run"]) == 0
    assert Path.cwd() == tmp_path
    assert (tmp_path / "run" / "report.json").is_file()
    assert not list((tmp_path / "other").iterdir())
