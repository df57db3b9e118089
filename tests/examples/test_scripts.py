"""Published loops, written out as scripts, become plugins with few changed lines, and keep the contract."""

from __future__ import annotations

import difflib
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from guard_plugins.host import PluginHost
from guard_plugins.testing import check_method

SCRIPTS = Path(__file__).parent / "scripts"
QUICK: dict[str, dict[str, Any]] = {
    "dm": {"iteration": 2, "batch_real": 4}, "rded": {"mipc": 12, "num_crop": 2, "ipc": 1},
    "mtt": {"iteration": 2, "ipc": 1},
}  # fmt: skip
MOST = 30
PAGE = Path(__file__).parents[2] / "docs" / "writing-plugins.md"


def changed_lines(script: Path, plugin: Path) -> tuple[int, int]:
    """Lines that only the script has, and lines that only the plugin has."""
    lines = [*difflib.ndiff(script.read_text().splitlines(), plugin.read_text().splitlines())]
    return sum(line.startswith("- ") for line in lines), sum(line.startswith("+ ") for line in lines)


@pytest.mark.parametrize("name", QUICK)
def test_a_script_becomes_a_plugin_with_few_changed_lines(name: str) -> None:
    left, new = changed_lines(SCRIPTS / f"{name}.py", SCRIPTS / f"{name}_plugin.py")
    assert 0 < left <= MOST
    assert 0 < new <= MOST
    (row,) = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith(f"| `{name}.py`, ")]
    length = len((SCRIPTS / f"{name}.py").read_text().splitlines())
    assert [int(cell) for cell in row.strip("|").split("|")[1:]] == [length, left, new]


@pytest.mark.parametrize(
    "name", [pytest.param("dm", marks=pytest.mark.slow), "rded", pytest.param("mtt", marks=pytest.mark.slow)]
)
def test_the_plugin_keeps_the_contract(name: str) -> None:
    method = PluginHost(only=[], files=[SCRIPTS / f"{name}_plugin.py"]).method(f"my-{name}")
    check_method(method, settings=QUICK[name])


@pytest.mark.slow
def test_the_scripts_are_scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 64, 10))
    torch.save(model.state_dict(), tmp_path / "model.pt")
    (tmp_path / "syn_data").mkdir()
    monkeypatch.chdir(tmp_path)
    for name, asked in (
        ("dm", ["--iteration=2"]),
        ("mtt", ["--iteration=1", "--train_epochs=2", "--num_experts=1"]),
        ("rded", ["--mipc=20"]),
    ):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *asked])
        runpy.run_path(str(SCRIPTS / f"{name}.py"), run_name="__main__")
    for name in ("dm", "mtt"):
        images, labels = torch.load(tmp_path / f"{name}.pt", weights_only=True)
        assert (tuple(images.shape), labels.tolist()) == ((10, 1, 8, 8), list(range(10)))
    assert len(list((tmp_path / "syn_data").glob("*.pt"))) == 10
