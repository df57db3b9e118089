"""What there is to recover: the labels of every batch, and the images the optimisation starts from."""

from __future__ import annotations

import torch
from torch import Tensor

from guard_plugins.data.augment import random_resized_crop
from guard_plugins.data.classwise import Classwise
from guard_plugins.networks.normalised import Normalised
from guard_plugins.runtime.task import Task
from guard_sre2l.config import RecoverConfig


def work_list(classes: int, ipc: int, batch: int, *, mix_copies: bool) -> list[Tensor]:
    """Return the labels of every batch to recover, at most ``batch`` long.

    The published code makes one image per class at a time, which for 10 classes is a batch of 10: too few to match
    BatchNorm statistics on. With ``mix_copies``, batches run on across the images of a class.
    """
    order = torch.arange(classes).repeat(ipc)
    copies = [order] if mix_copies else list(order.split(classes))
    return [labels for copy in copies for labels in copy.split(batch)]


def first_iterate(task: Task, teacher: Normalised, labels: Tensor, settings: RecoverConfig, stage: str) -> Tensor:
    """Return the start of a batch in the teacher's normalised space, shape (len(labels), C, H, W), on the device."""
    if settings.start == "real":
        return teacher.normalise(_real_patches(task, labels, settings.patch_scale, stage).to(task.device))
    noise = torch.randn((len(labels), *task.data.image_shape), generator=task.seeds.generator(stage, "start"))
    return noise.to(task.device)


def _real_patches(task: Task, labels: Tensor, scale: float, stage: str) -> Tensor:
    real, generator = Classwise(task.data.train, task.classes), task.seeds.generator(stage, "start")
    images = torch.cat([real.draw(label, 1, generator) for label in labels.tolist()])
    if scale == 1:
        return images
    task.seeds.reset(stage, "patches")
    return random_resized_crop(images, scale=(scale, 1.0))
