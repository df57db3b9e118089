"""A small task with an untrained teacher, and its labels stored on disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from guard_baselines.noise import Noise
from guard_plugins.data.distilled import DistilledSet
from guard_plugins.labels.layout import DType
from guard_plugins.labels.relabel import STAGE, relabel
from guard_plugins.labels.store import StoredLabels
from guard_plugins.networks.normalised import Normalised
from guard_plugins.runtime.task import Task
from guard_plugins.testing.tiny import tiny_task
from guard_plugins.training.student_batches import StudentBatch, online

RECIPES: dict[str, dict[str, Any]] = {
    "published": {"augment": "resized-crop-flip", "cutmix": 1.0},
    "cifar": {"augment": "crop-flip", "mixup": 0.8, "cutmix": 0.0},
    "crop-cutmix": {"augment": "crop", "cutmix": 1.0},
    "resized-alone": {"augment": "resized-crop-flip", "mixup": 0.0, "cutmix": 0.0},
    "images-alone": {"augment": "none", "mixup": 0.0, "cutmix": 0.0},
}
EPOCHS, BATCH, IMAGES = 23, 7, 20
"""Shards of 10, 10 and 3 epochs; 2 batches an epoch, 6 images of the 20 left out of it."""


@dataclass(frozen=True)
class World:
    """A task with images and a teacher."""

    task: Task
    distilled: DistilledSet
    teacher: Normalised
    root: Path

    def write(self, name: str = "labels", *, dtype: DType = "float16", inputs: str = "x") -> Path:
        relabel(self.task, self.distilled, self.teacher, self.root / name, inputs=inputs, dtype=dtype)
        return self.root / name

    def stored(self, **options: Any) -> StoredLabels:
        return StoredLabels(self.write(**options), self.distilled.images)

    def online(self, step: int) -> StudentBatch:
        """Return the batch an online student sees at a step."""
        self.task.seeds.reset(STAGE, step)
        return online(self.task, self.distilled, self.teacher)(STAGE).batch(step)


@pytest.fixture
def world(tmp_path: Path) -> Callable[[str], World]:
    """Return the world of a recipe."""

    def make(recipe: str, *, epochs: int = EPOCHS) -> World:
        student = {"epochs": epochs, "batch_size": BATCH, "lr": 1e-3, **RECIPES[recipe]}
        task = tiny_task(Noise, settings={"student": student, "seed": 5})
        images = torch.rand(IMAGES, 1, 8, 8, generator=torch.Generator().manual_seed(1))
        teacher = task.network(stage="teacher").eval().requires_grad_(False)
        return World(task, DistilledSet(images, torch.arange(10).repeat(2)), teacher, tmp_path)

    return make
