"""Weights published under a name, as the teacher of guard-run and as guard-eval's checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from guard_plugins.artifacts.weights.published import Published
from guard_plugins.cli import eval as guard_eval
from guard_plugins.cli import run as guard_run
from guard_plugins.networks.base import NetworkRequest
from guard_plugins.networks.small_resnet import SmallResNet
from guard_plugins.pipeline import teacher_file
from guard_plugins.pipeline.standalone import checkpoint

NAME = "torchvision:small"  # what torchvision and timm publish has the classes of ImageNet, too many for a test
PROTOCOL = ["--evaluation.images", "40", "--evaluation.protocol", "fgsm", "--evaluation.eps", "1"]


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """Weights that both commands find under ``NAME``, with a normalisation that is not the data set's."""
    torch.manual_seed(0)
    state = SmallResNet(NetworkRequest(image_shape=(1, 8, 8), classes=10)).state_dict()
    torch.save(state, tmp_path / "cached.pth")
    found = Published(tmp_path / "cached.pth", "small-resnet", (0.25,), (0.75,))
    for module in (teacher_file, checkpoint):
        monkeypatch.setattr(module, "find_published", lambda path, *, download: found)
    return state


def test_both_commands_take_them_with_their_normalisation(weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    assert guard_eval.main([NAME, *PROTOCOL, "--output", str(tmp_path / "alone.json")]) == 0
    run = ["--method", "random", "--ipc", "1", "--teacher", NAME, "--teacher.network", "small-resnet", "--no-guard"]
    assert guard_run.main([*run, "--student.epochs", "1", *PROTOCOL, "--output", str(tmp_path / "run")]) == 0
    alone = json.loads((tmp_path / "alone.json").read_text())["model"]
    teacher = json.loads((tmp_path / "run" / "report.json").read_text())["models"]["teacher"]
    assert [teacher["clean"], *(entry["accuracy"] for entry in teacher["robust"])] == [
        alone["clean"], *(entry["accuracy"] for entry in alone["robust"])
    ]  # fmt: skip
    kept = load_file(tmp_path / "run" / "teacher.safetensors")
    for name, value in weights.items():
        assert torch.equal(kept[f"network.{name}"], value)
    assert (float(kept["mean"]), float(kept["std"])) == (0.25, 0.75)


def test_a_normalisation_that_is_given_goes_over_the_published_one(
    weights: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    run = ["--method", "random", "--ipc", "1", "--teacher", NAME, "--teacher.network", "small-resnet", "--no-guard"]
    given = ["--teacher.mean", "0.5", "--student.epochs", "1", "--output", str(tmp_path / "run")]
    assert guard_run.main([*run, *given, *PROTOCOL]) == 0
    kept = load_file(tmp_path / "run" / "teacher.safetensors")
    assert (float(kept["mean"]), float(kept["std"])) == (0.5, 0.75)
