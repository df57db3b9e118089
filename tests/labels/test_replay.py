"""Stored labels replayed: against a slow twin, against online batches, and in any order."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from guard_plugins.labels.store import StoredLabels
from guard_plugins.training.student import train_student
from guard_plugins.training.student_batches import online
from tests.labels.conftest import BATCH, EPOCHS, RECIPES, World

Worlds = Callable[..., World]
STEPS = EPOCHS * 2


def twin(world: World, numbers: dict[str, Tensor], step: int, place: int) -> Tensor:
    """Return one stored view: image by image, from the numbers in the file alone."""
    image = viewed(world, numbers, step, place)
    if "partner" not in numbers:
        return image
    other = viewed(world, numbers, step, int(numbers["partner"][step, place]))
    if "box" not in numbers:
        share = float(numbers["share"][step])
        return share * image + (1 - share) * other
    top, bottom, left, right = numbers["box"][step].tolist()
    out = image.clone()
    for row in range(top, bottom):
        for column in range(left, right):
            out[:, row, column] = other[:, row, column]
    assert float(numbers["share"][step]) == pytest.approx(1 - (bottom - top) * (right - left) / 64)
    return out


def viewed(world: World, numbers: dict[str, Tensor], step: int, place: int) -> Tensor:
    image = world.distilled.images[int(numbers["rows"][step, place])]
    window = numbers["window"][step, place].tolist() if "window" in numbers else []
    if len(window) == 2:
        image = F.pad(image, (8,) * 4)[:, 8 + window[0] : 16 + window[0], 8 + window[1] : 16 + window[1]]
    elif window:
        top, left, height, width = window
        part = image[None, :, top : top + height, left : left + width]
        image = F.interpolate(part, size=(8, 8), mode="bilinear", align_corners=False)[0]
    if "flipped" in numbers and bool(numbers["flipped"][step, place]):
        image = torch.stack([image[..., column] for column in range(7, -1, -1)], dim=-1)
    return image


@pytest.mark.parametrize("recipe", RECIPES)
def test_replay_and_labels_agree_with_a_loop_over_the_stored_numbers(world: Worlds, recipe: str) -> None:
    one = world(recipe)
    stored = one.stored(dtype="float32")
    paths = sorted((one.root / "labels").iterdir())
    assert [path.name for path in paths] == [f"epochs-0000{n}0.safetensors" for n in range(3)]
    for path, first in zip(paths, (0, 20, 40), strict=True):
        numbers = load_file(path)
        assert sorted(numbers["rows"][:2].flatten().unique().tolist()) == sorted(numbers["rows"][:2].flatten().tolist())
        for step in (0, 3):
            batch = stored.batch(first + step)
            for place in range(BATCH):
                view = twin(one, numbers, step, place)
                logits = one.teacher(view[None])[0]
                assert torch.allclose(batch.images[place], view, atol=1e-5)
                assert torch.allclose(batch.targets[place], logits, atol=1e-4)
                assert torch.equal(batch.targets[place], numbers["logits"][step, place])


@pytest.mark.parametrize("recipe", RECIPES)
def test_stored_lessons_are_the_online_ones(world: Worlds, recipe: str) -> None:
    one = world(recipe)
    exact, rounded = one.stored(name="exact", dtype="float32"), one.stored(name="rounded")
    assert exact.total == rounded.total == STEPS
    for step in range(STEPS):
        batch = one.online(step)
        assert torch.equal(exact.batch(step).images, batch.images)
        assert torch.equal(exact.batch(step).targets, batch.targets)
        assert torch.equal(rounded.batch(step).images, batch.images)
        assert torch.equal(rounded.batch(step).targets, batch.targets.half().float())


def test_views_differ_between_images_and_epochs(world: Worlds) -> None:
    numbers = load_file(world("published").write() / "epochs-000000.safetensors")
    assert len(numbers["window"].flatten(0, 1).unique(dim=0)) > 70
    assert 0.3 < numbers["flipped"].float().mean() < 0.7
    assert len(numbers["share"].unique()) > 10
    assert not torch.equal(numbers["rows"][:2], numbers["rows"][2:4])


@pytest.mark.parametrize("recipe", ["published", "cifar"])
def test_a_student_of_exact_labels_is_the_online_one(world: Worlds, recipe: str) -> None:
    one = world(recipe)
    taught = train_student(one.task, online(one.task, one.distilled, one.teacher)("student/0"), stage="student/0")
    replayed = train_student(one.task, one.stored(dtype="float32"), stage="student/0")
    for name, value in taught.state_dict().items():
        assert torch.allclose(value.double(), replayed.state_dict()[name].double(), rtol=0, atol=1e-6), name


def test_a_student_never_asks_the_teacher(world: Worlds) -> None:
    one = world("cifar", epochs=2)
    stored = one.stored()
    one.teacher.forward = None  # type: ignore[assignment,method-assign]
    train_student(one.task, stored, stage="student/0")


@pytest.mark.parametrize("recipe", ["published", "cifar", "crop-cutmix"])
@pytest.mark.parametrize(("batch", "workers"), [(1, 0), (5, 0), (64, 0), (5, 2)])
def test_any_order_batch_size_and_workers_give_the_same_items(
    world: Worlds, recipe: str, batch: int, workers: int
) -> None:
    stored = world(recipe).stored()
    batches = [stored.batch(step) for step in range(STEPS)]
    images, logits = torch.cat([it.images for it in batches]), torch.cat([it.targets for it in batches])
    assert len(stored) == len(images) == STEPS * BATCH
    order = torch.randperm(len(stored), generator=torch.Generator().manual_seed(2))
    loader = DataLoader(stored, batch_size=batch, sampler=order.tolist(), num_workers=workers)
    found = list(loader)
    assert torch.allclose(torch.cat([it[0] for it in found]), images[order], rtol=0, atol=1e-6)
    assert torch.equal(torch.cat([it[1] for it in found]), logits[order])


def test_items_are_read_one_by_one_and_end(world: Worlds) -> None:
    stored = world("cifar", epochs=2).stored()
    image, logits = stored[BATCH + 2]
    batch = stored.batch(1)
    assert torch.allclose(image, batch.images[2], rtol=0, atol=1e-6)
    assert torch.equal(logits, batch.targets[2])
    assert len(list(stored)) == len(stored) == 4 * BATCH
    with pytest.raises(IndexError, match="item 28 of 28"):
        stored[28]


def test_replay_draws_nothing(world: Worlds) -> None:
    stored: StoredLabels = world("published", epochs=2).stored()
    torch.manual_seed(0)
    first = stored.batch(0)
    state = torch.get_rng_state()
    again = stored.batch(0)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.images, again.images)
