"""The numbers behind the pictures: slices against a naive twin, and the file they are kept in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from guard_baselines.noise import Noise
from guard_plugins.artifacts.figures import load_figures, save_figures
from guard_plugins.errors import ArtifactError
from guard_plugins.evaluation.figures import GRID, collect, loss_slice
from guard_plugins.testing.tiny import tiny_task
from tests.report.folders import figures


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 7), nn.Tanh(), nn.Linear(7, 3)).eval()


def test_a_slice_is_the_loss_point_by_point() -> None:
    model, image, label = network(), torch.rand(3, 2, 2), torch.tensor(1)
    found = loss_slice(model, image, label, reach=0.8, direction=torch.Generator().manual_seed(3))
    leaf = image.clone().requires_grad_()
    F.cross_entropy(model(leaf[None]), label[None]).backward()
    assert leaf.grad is not None
    along = leaf.grad / leaf.grad.norm()
    across = torch.randn(3, 2, 2, generator=torch.Generator().manual_seed(3))
    across = across - (across * along).sum() * along
    across = across / across.norm()
    for row in (0, 7, GRID // 2, GRID - 1):
        for column in (0, 4, GRID // 2, GRID - 1):
            a, b = (0.8 * (2 * step / (GRID - 1) - 1) for step in (row, column))
            with torch.no_grad():
                expected = F.cross_entropy(model((image + a * along + b * across)[None]), label[None])
            assert found[row, column] == pytest.approx(float(expected), rel=1e-4, abs=1e-6)
    assert found[-1, GRID // 2] > found[GRID // 2, GRID // 2] > found[0, GRID // 2]


def test_adversarial_examples_are_made_of_the_student_alone_which_pages_show() -> None:
    task = tiny_task(Noise)
    models = {kind: task.network(stage=kind).eval() for kind in ("teacher", "student")}
    found = collect(task, models, {}, radii=(0.1, 0.2), h=0.5)
    assert {name for name in found.arrays if name.startswith("teacher")} == {"teacher/slices"}
    assert {name for name in found.arrays if name.startswith("student")} == {
        f"student/{name}" for name in ("slices", "adversarial", "before", "after")
    }
    adversarial = found.arrays["student/adversarial"].astype(np.float32)
    moved = np.abs(adversarial - found.arrays["clean"]).max(axis=(1, 2, 3, 4))
    assert moved[0] == pytest.approx(0.1, abs=2e-3)
    assert 0.1 < moved[1] <= 0.2 + 2e-3


def test_figures_come_back_as_they_were_saved(tmp_path: Path) -> None:
    stored = figures()
    save_figures(tmp_path / "figures.safetensors", stored)
    again = load_figures(tmp_path / "figures.safetensors")
    assert list(again.about.radii) == list(stored.about.radii)
    assert (list(again.about.classes), again.about.attack, again.about.h) == (["zero", "one"], "pgd-20", 0.5)
    assert set(again.arrays) == set(stored.arrays)
    assert all(np.array_equal(again.arrays[name], stored.arrays[name]) for name in stored.arrays)
    assert again.of("student_hard", "slices") is None


def test_damaged_figures_are_named(tmp_path: Path) -> None:
    path = tmp_path / "figures.safetensors"
    path.write_bytes(b"nonsense")
    with pytest.raises(ArtifactError, match="is damaged") as caught:
        load_figures(path)
    assert "Delete it" in caught.value.do
