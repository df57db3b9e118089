"""The training of an expert: plain SGD at a constant rate, its weights kept after every epoch that is asked for."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from guard_plugins import LoopState, Normalised, Task


def train_expert(task: Task, model: Normalised, augment: Callable[[Tensor, int], Tensor]) -> None:
    """Train ``model`` on the real images, in place.

    Args:
        task: Gives data, seeds, device and the section ``teacher``.
        model: The network.
        augment: From normalised images and the number of the step to augmented ones.

    Raises:
        TrainingError: If the loss stops being finite.
    """
    settings, split = task.config.teacher, task.data.train
    size = min(settings.batch_size, len(split))
    per_epoch = len(split) // size
    sgd = torch.optim.SGD(
        model.parameters(), lr=settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay
    )
    model.train()
    task.snapshot(0, model)
    for step in task.steps("teacher", per_epoch * settings.epochs, state=LoopState(model=model, sgd=sgd)):
        epoch, place = divmod(step.index, per_epoch)
        order = torch.randperm(len(split), generator=task.seeds.generator("teacher", "order", epoch))
        rows = order[place * size : (place + 1) * size]
        images = split.images(rows).to(task.device)
        images = model.pixels(augment(model.normalise(images), step.index))
        loss = F.cross_entropy(model(images), split.labels[rows].to(task.device))
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        step.log(loss=loss)
        if place == per_epoch - 1:
            task.snapshot(epoch + 1, model)
    model.eval()
