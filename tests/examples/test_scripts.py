"""Published loops, written out as scripts, become plugins with few changed lines, and keep the contract."""

from __future__ import annotations

import difflib
import subprocess
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


def changed_lines(script: Path, plugin: Path) -> tuple[int, int]:
    """Lines that only the script has, and lines that only the plugin has."""
    lines = [*difflib.ndiff(script.read_text().splitlines(), plugin.read_text().splitlines())]
    return sum(line.startswith("- ") for line in lines), sum(line.startswith("+ ") for line in lines)


@pytest.mark.parametrize("name", QUICK)
def test_a_script_becomes_a_plugin_with_few_changed_lines(name: str) -> None:
    left, new = changed_lines(SCRIPTS / f"{name}.py", SCRIPTS / f"{name}_plugin.py")
    assert 0 < left <= MOST
    assert 0 < new <= MOST


@pytest.mark.parametrize(
    "name", [pytest.param("dm", marks=pytest.mark.slow), "rded", pytest.param("mtt", marks=pytest.mark.slow)]
)
def test_the_plugin_keeps_the_contract(name: str) -> None:
    method = PluginHost(only=[], files=[SCRIPTS / f"{name}_plugin.py"]).method(f"my-{name}")
    check_method(method, settings=QUICK[name])


@pytest.mark.slow
def test_the_scripts_are_scripts(tmp_path: Path) -> None:
    asked = ["--iteration=1", "--train_epochs=2", "--num_experts=1", f"--save_path={tmp_path / 'mtt.pt'}"]
    subprocess.run([sys.executable, str(SCRIPTS / "mtt.py"), *asked], check=True, capture_output=True)
    assert torch.load(tmp_path / "mtt.pt", weights_only=True)[0].shape == (10, 1, 8, 8)
    base = [sys.executable, str(SCRIPTS / "dm.py"), "--iteration=2", f"--save_path={tmp_path / 'dm.pt'}"]
    subprocess.run(base, check=True, capture_output=True)
    images, labels = torch.load(tmp_path / "dm.pt", weights_only=True)
    assert (tuple(images.shape), labels.tolist()) == ((10, 1, 8, 8), list(range(10)))
    model = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 64, 10))
    torch.save(model.state_dict(), tmp_path / "model.pt")
    (tmp_path / "syn").mkdir()
    asked = [f"--model={tmp_path / 'model.pt'}", f"--syn-data-path={tmp_path / 'syn'}", "--mipc=20"]
    subprocess.run([sys.executable, str(SCRIPTS / "rded.py"), *asked], check=True, capture_output=True)
    assert len(list((tmp_path / "syn").glob("*.pt"))) == 10
