"""Batches of a set are the same from bytes, from floats and from a file, wherever the whole set lies."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from guard_plugins.artifacts.sets.distilled import load_distilled, load_pngs, save_distilled
from guard_plugins.data.distilled import DistilledSet, floats_of
from guard_plugins.errors import TrainingError
from guard_plugins.training import student_batches
from guard_plugins.training.student_batches import gathered, placed

CPU = torch.device("cpu")


def test_bytes_become_the_floats_that_dividing_gives() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(floats_of(levels), levels.float() / 255)
    floats = torch.rand(3)
    assert floats_of(floats) is floats


def test_batches_from_files_are_those_of_the_set(tmp_path: Path) -> None:
    images = torch.rand(6, 1, 5, 4, generator=torch.Generator().manual_seed(0))
    made = DistilledSet(images, torch.arange(6) % 2)
    save_distilled(tmp_path, made, ["a", "b"])
    rows = torch.tensor([4, 0, 4], dtype=torch.int32)
    exact, stored = load_distilled(tmp_path), load_pngs(tmp_path)
    assert torch.equal(gathered(exact.images, rows, CPU), images[rows])
    assert torch.equal(gathered(stored.images, rows, CPU), made.as_stored().images[rows])


def test_a_large_set_stays_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.rand(4, 1, 2, 2)
    assert placed(images, torch.device("meta")).device.type == "meta"
    monkeypatch.setattr(student_batches, "ON_DEVICE", images.nbytes - 1)
    assert placed(images, torch.device("meta")) is images


@pytest.mark.parametrize(
    ("pixel", "message"),
    [(float("nan"), "not finite"), (float("inf"), "not finite"), (1.5, "leave the range"), (-0.5, "leave the range")],
)
def test_one_wrong_pixel_of_any_image_is_found(pixel: float, message: str) -> None:
    images = torch.rand(5, 1, 2, 2)
    images[3, 0, 1, 0] = pixel
    with pytest.raises(TrainingError, match=message):
        DistilledSet(images, torch.zeros(5, dtype=torch.int64))
