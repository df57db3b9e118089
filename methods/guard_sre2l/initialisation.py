"""The labels of every batch to recover, and the images that the optimisation starts from."""

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

    The published code makes one image per class at a time. For 10 classes that is a batch of 10, too small to match
    BatchNorm statistics. With ``mix_copies``, a batch has several images of a class.

    Args:
        classes: Number of classes.
        ipc: Images per class.
        batch: Images per batch at most.
        mix_copies: Whether a batch may have several images of a class.
    """
    order = torch.arange(classes).repeat(ipc)
    copies = [order] if mix_copies else list(order.split(classes))
    return [labels for copy in copies for labels in copy.split(batch)]


def first_iterate(task: Task, teacher: Normalised, labels: Tensor, settings: RecoverConfig, stage: str) -> Tensor:
    """Return the first iterate of a batch in the teacher's normalised space, (len(labels), C, H, W), on the device.

    Args:
        task: Gives data, seeds and device.
        teacher: Gives the normalisation.
        labels: Class of every image.
        settings: Whether to start from noise or from real images.
        stage: Name of the loop; the images depend on it.
    """
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
