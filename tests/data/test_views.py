"""Stored images that hold several training images: read one by one, and alike by everything that follows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from guard_baselines.random_real import RandomReal
from guard_plugins.artifacts.sets.distilled import load_distilled, load_pngs, save_distilled
from guard_plugins.cli.plugins import main
from guard_plugins.data.distilled import DistilledSet
from guard_plugins.data.views import grid_views
from guard_plugins.errors import ConfigError, DataError, TrainingError
from guard_plugins.pipeline.standalone.evaluate import evaluate
from guard_plugins.pipeline.standalone.request import EvaluationRequest
from guard_plugins.testing import check_method, tiny_task
from guard_plugins.training.recipes import recipe_of
from guard_plugins.training.student_batches import FixedLabelBatches, OnlineBatches
from tests.pipeline.conftest import do_tiny_run


def some(count: int = 20, *, soft: int = 3) -> DistilledSet:
    """Images of 8 x 8 with four views, and soft labels per image (2) or view (3)."""
    generator = torch.Generator().manual_seed(0)
    shape = (count, 4, 10) if soft == 3 else (count, 10)
    images = (torch.rand((count, 1, 8, 8), generator=generator) * 255).round() / 255
    labels = torch.arange(10).repeat(count // 10)
    return DistilledSet(images, labels, torch.randn(shape, generator=generator), views=grid_views(count, (8, 8), 2))


def by_hand(stored: DistilledSet, row: int) -> torch.Tensor:
    """One training image, by another interpolation."""
    assert stored.views is not None
    top, left, height, width = stored.views[row // 4, row % 4].tolist()
    tile = stored.images[row // 4 : row // 4 + 1, :, top : top + height, left : left + width]
    return F.interpolate(tile, size=(8, 8), mode="bilinear", align_corners=False)[0]


def test_training_images_are_the_enlarged_tiles_in_any_order() -> None:
    stored = some()
    assert (len(stored), stored.per_image) == (80, 4)
    rows = torch.tensor([79, 0, 5, 5])
    for image, row in zip(stored.read(rows), rows.tolist(), strict=True):
        torch.testing.assert_close(image, by_hand(stored, row), atol=1e-6, rtol=0)
    whole = stored.decoded()
    torch.testing.assert_close(whole.images[rows], stored.read(rows))
    assert torch.equal(whole.labels, stored.labels.repeat_interleave(4))
    assert stored.soft_labels is not None
    assert torch.equal(stored.soft(rows)[2], stored.soft_labels[1, 1])
    assert torch.equal(some(soft=2).soft(rows)[0], some(soft=2).soft_labels[19])  # type: ignore[index]
    assert whole.decoded() is whole


def test_students_see_every_training_image_with_its_label() -> None:
    stored = some()
    settings = {"student": {"augment": "none", "mixup": 0.0, "batch_size": 80, "epochs": 1}, "ipc": 2}
    task = tiny_task(RandomReal, settings=settings)
    own = FixedLabelBatches(task, stored, stage="student/0")
    hard = OnlineBatches(task, stored, recipe_of(task.config.student), None, stage="student/0")
    rows = own.order.index(0)
    assert sorted(rows.tolist()) == list(range(80))
    assert torch.equal(own.batch(0).images, stored.read(rows))
    assert torch.equal(own.batch(0).targets, stored.soft(rows))
    assert torch.equal(hard.batch(0).targets.argmax(1), stored.labels[rows // 4])


def test_a_folder_keeps_the_views_in_tensors_and_beside_the_pngs(tmp_path: Path) -> None:
    stored = some()
    save_distilled(tmp_path, stored, tuple(map(str, range(10))))
    exact, pngs = load_distilled(tmp_path), load_pngs(tmp_path)
    for found in (exact, pngs):
        assert torch.equal(found.views, stored.views)  # type: ignore[arg-type]
        torch.testing.assert_close(found.decoded().images, stored.decoded().images)
    assert torch.equal(exact.soft_labels, stored.soft_labels)  # type: ignore[arg-type]
    row = json.loads((tmp_path / "metadata.jsonl").read_text().splitlines()[0])
    assert row["views"] == [[0, 0, 4, 4], [0, 4, 4, 4], [4, 0, 4, 4], [4, 4, 4, 4]]


@pytest.mark.parametrize(
    ("views", "said"),
    [
        (torch.zeros(20, 4, dtype=torch.int64), r"must be boxes \(N, V, 4\), int64"),
        (torch.tensor([[[0, 0, 8, 9]]]).repeat(20, 1, 1), "leaves its image"),
        (torch.tensor([[[-1, 0, 4, 4]]]).repeat(20, 1, 1), "leaves its image"),
        (torch.tensor([[[2**62, 0, 2**62, 4]]]).repeat(20, 1, 1), "leaves its image"),
    ],
)
def test_wrong_views_are_refused(views: torch.Tensor, said: str) -> None:
    with pytest.raises(TrainingError, match=said):
        DistilledSet(some().images, some().labels, views=views)


def test_random_stores_four_real_images_in_one_and_one_as_before() -> None:
    task = tiny_task(RandomReal, settings={"random": {"formation": 2}})
    plain = tiny_task(RandomReal)
    method, before = (
        RandomReal(RandomReal.Config(**one.config.model_dump(include={"random"}))) for one in (task, plain)
    )
    method.check(task, None)
    stored = method.distill(task, None)
    assert stored.images.shape == (20, 1, 8, 8)
    chosen = torch.randperm(12, generator=task.seeds.generator("random", 3))[4:8]  # of class 3, its second stored image
    members = torch.nonzero(task.data.train.labels == 3).flatten()[chosen]
    small = F.avg_pool2d(task.data.train.images(members), 2)
    torch.testing.assert_close(stored.images[13, :, :4, 4:], small[1])
    torch.testing.assert_close(stored.images[13, :, 4:, :4], small[2])
    one = before.distill(plain, None)
    assert one.views is None
    first = torch.randperm(12, generator=task.seeds.generator("random", 3))[1]
    expected = plain.data.train.images(torch.nonzero(plain.data.train.labels == 3).flatten()[first].view(1))[0]
    assert torch.equal(one.images[13], expected)


def test_a_formation_that_cannot_be_is_refused() -> None:
    for settings, error, said in (
        ({"random": {"formation": 3}}, ConfigError, r"tiles of one size \(--random.formation\)"),
        ({"random": {"formation": 4}}, DataError, "12 training images, fewer than --ipc asks for"),
    ):
        task = tiny_task(RandomReal, settings=settings)
        method = RandomReal(RandomReal.Config(**task.config.model_dump(include={"random"})))
        with pytest.raises(error, match=said):
            method.check(task, None)


@pytest.mark.slow
def test_a_run_its_export_and_its_evaluation_follow(tmp_path: Path) -> None:
    check_method(RandomReal, settings={"random": {"formation": 2}}, instant=True)
    report, run = do_tiny_run(tmp_path / "run", "random", random={"formation": 2}, student={"labels": "stored"})
    said = "The budget is 10 stored images, 640 stored pixels (channels counted). Students read 4 training images from "
    assert f"{said}each of them." in report.notes
    assert main(["export", str(run), "--format", "dd-ranking", "--output", str(tmp_path / "out")]) == 0
    images = torch.load(tmp_path / "out" / "images.pt", weights_only=True)
    assert images.shape == (40, 1, 8, 8)
    assert "exported as the 40 training images" in (tmp_path / "out" / "README.md").read_text()
    found = evaluate(EvaluationRequest(distilled=run, student={"epochs": 2}, evaluation={"images": 10}))  # type: ignore[arg-type]
    assert found.model.clean is not None
