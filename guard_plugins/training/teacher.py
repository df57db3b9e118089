"""The training loop of a teacher (the squeeze stage of SRe2L): SGD on the objective that the settings name."""

from __future__ import annotations

import torch
from torch import nn

from guard_plugins.runtime.loop import LoopState
from guard_plugins.runtime.task import Task
from guard_plugins.training.augmentation import augmentation
from guard_plugins.training.batches import EpochBatches
from guard_plugins.training.objectives import objective
from guard_plugins.training.read_ahead import ReadAhead
from guard_plugins.training.schedules import learning_rate


def train_supervised(task: Task, model: nn.Module) -> None:
    """Train ``model`` (pixels in, logits out) on the task's training split, in place, and leave it in eval mode.

    Args:
        task: Gives data, settings (section ``teacher``), seeds, device and progress.
        model: A network on the task's device.

    Raises:
        TrainingError: If the loss stops being finite.
    """
    settings = task.config.teacher
    split = task.data.train
    batches = EpochBatches(len(split), settings.batch_size, seeds=task.seeds, stage="teacher")
    total = batches.per_epoch * settings.epochs
    net = task.engine.model(model)
    sgd = torch.optim.SGD(
        net.parameters(), lr=settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay,
        nesterov=settings.momentum > 0,
    )  # fmt: skip
    scheduler = learning_rate(sgd, settings.schedule, total)
    optimizer = task.engine.optimizer(sgd)
    augment, loss_of = augmentation(settings.augment, task.augmentations), objective(settings)
    model.train()
    task.snapshot(0, model)
    state = LoopState(model=model, optimizer=sgd, scheduler=scheduler)
    with ReadAhead(split, batches.index, total) as ahead:
        for step in task.steps("teacher", total, state=state):
            images, labels = (part.to(task.device) for part in ahead.batch(step.index))
            loss = loss_of(net, augment(images), labels)
            optimizer.zero_grad()
            task.engine.backward(loss)
            optimizer.step()
            scheduler.step()
            step.log(loss=loss)
            if (step.index + 1) % batches.per_epoch == 0:
                task.snapshot((step.index + 1) // batches.per_epoch, model)
    model.eval()
