"""The training loop of a teacher (the squeeze stage of SRe2L): SGD on the objective that the settings name."""

from __future__ import annotations

import torch
from torch import nn

from guard_plugins.runtime.loop import LoopState
from guard_plugins.runtime.task import Task
from guard_plugins.training.augmentation import augmentation
from guard_plugins.training.batches import EpochBatches
from guard_plugins.training.crops import original_crops
from guard_plugins.training.objectives import objective
from guard_plugins.training.parts import Rows, in_parts, share_gradients, share_statistics
from guard_plugins.training.read_ahead import ReadAhead
from guard_plugins.training.schedules import learning_rate
from guard_plugins.training.weight_average import WeightAverage


def train_supervised(task: Task, model: nn.Module) -> None:
    """Train ``model`` (pixels in, logits out) on the task's training split, in place, and leave it in eval mode.

    In a team, every process has a part of each batch, and all end with the same weights.

    Args:
        task: Gives data, settings (section ``teacher``), seeds, device and progress.
        model: A network on the task's device.

    Raises:
        TrainingError: If the loss stops being finite.
    """
    with in_parts(task.engine.model(model), task.keeper.team, task.config.teacher.batchnorm) as net:
        _train(task, model, net)
    model.eval()


def _train(task: Task, model: nn.Module, net: nn.Module) -> None:
    settings, split, team = task.config.teacher, task.data.train, task.keeper.team
    batches = EpochBatches(len(split), settings.batch_size, seeds=task.seeds, stage="teacher")
    total, rows = batches.per_epoch * settings.epochs, Rows.of_team(team, batches.size)
    sgd = torch.optim.SGD(
        net.parameters(), lr=settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay,
        nesterov=settings.momentum > 0,
    )  # fmt: skip
    scheduler = learning_rate(sgd, settings.schedule, total)
    optimizer = task.engine.optimizer(sgd)
    crops = original_crops(task, batches.size, rows)
    augment = augmentation("none" if crops else settings.augment, task.augmentations, rows)
    loss_of = objective(settings, rows)
    net.train()
    task.snapshot(0, model)
    average = WeightAverage(model, decay=settings.ema) if settings.ema else None
    beside = {} if average is None else {"average": average}
    state = LoopState(model=model, optimizer=sgd, scheduler=scheduler, **beside)
    with ReadAhead(split, lambda step: rows.take(batches.index(step)), total, crops) as ahead:
        for step in task.steps("teacher", total, state=state):
            images, labels = (part.to(task.device) for part in ahead.batch(step.index))
            loss = loss_of(net, augment(images), labels)
            optimizer.zero_grad()
            task.engine.backward(loss)
            loss = share_gradients(net, team, loss)
            optimizer.step()
            scheduler.step()
            if settings.batchnorm == "local":
                share_statistics(net, team)
            if average is not None:
                average.update(model)
            step.log(loss=loss)
            if (step.index + 1) % batches.per_epoch == 0:
                task.snapshot((step.index + 1) // batches.per_epoch, model)
    if average is not None:
        average.give(model)
