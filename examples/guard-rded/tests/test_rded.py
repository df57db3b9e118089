"""The contract every method keeps, and what is particular to RDED."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from guard_plugins.errors import ConfigError, DataError
from guard_plugins.testing import check_installed, check_method, tiny_task
from guard_plugins.testing.fixtures import TinyRun
from guard_rded.config import RDEDConfig, RDEDOptions
from guard_rded.method import RDED
from guard_rded.patches import collage, unlikeliness


def rded(**options: object) -> RDED:
    return RDED(RDEDConfig(rded=RDEDOptions.model_validate(options)))


@pytest.mark.parametrize("factor", [1, 2])
def test_the_contract(factor: int) -> None:
    check_method(RDED, settings={"rded": {"factor": factor, "crops": 2}})


def test_it_is_installed() -> None:
    check_installed("rded")


def test_a_whole_run_under_the_hook(tiny_run: TinyRun) -> None:
    report, folder = tiny_run("rded")
    assert report.hook is not None
    assert report.hook.regularised_steps == report.hook.steps > 0
    assert len(list((folder / "distilled").rglob("*.png"))) == 20


def test_a_collage_puts_every_patch_in_its_place() -> None:
    patches = torch.arange(8.0).view(8, 1, 1, 1).expand(8, 1, 4, 4) / 8
    images = collage(patches, 2)
    assert images.shape == (2, 1, 4, 4)
    for i in range(2):
        quarters = [images[i, 0, 2 * row : 2 * row + 2, 2 * col : 2 * col + 2] for row in (0, 1) for col in (0, 1)]
        assert [float(quarter.mean() * 8) for quarter in quarters] == pytest.approx([i, i + 2, i + 4, i + 6])
        assert all(quarter.std() < 1e-6 for quarter in quarters)


def test_the_score_is_the_cross_entropy_of_every_patch() -> None:
    teacher, patches = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).requires_grad_(False), torch.rand(7, 1, 2, 2)
    naive = [float(F.cross_entropy(teacher(patch[None]), torch.tensor([2]))) for patch in patches]
    assert unlikeliness(teacher, patches, 2, batch=3).tolist() == pytest.approx(naive, abs=1e-6)


def test_whole_images_are_chosen_by_the_teachers_loss() -> None:
    task = tiny_task(RDED)
    teacher = task.network(stage="teacher").eval().requires_grad_(False)
    distilled = rded(crop_scale=1.0, crops=1, pool=12).distill(task, teacher)
    real = task.data.train.images(torch.arange(len(task.data.train)))
    losses = F.cross_entropy(teacher(real), task.data.train.labels, reduction="none")
    for label in range(10):
        best = losses[task.data.train.labels == label].sort().values[:2]
        mine = F.cross_entropy(
            teacher(distilled.images[2 * label : 2 * label + 2]), torch.full((2,), label), reduction="none"
        )
        assert torch.allclose(best, mine, atol=0.05)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"factor": 3}, ConfigError, "Images of 8x8 pixels cannot be put together from 3x3 patches"),
        ({"factor": 4}, DataError, "too few real images to choose from"),
        ({"pool": 1}, DataError, "too few real images to choose from"),
    ],
)
def test_what_cannot_work_is_refused_early(options: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        rded(**options).check(tiny_task(RDED), None)
