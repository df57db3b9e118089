"""Students: fresh networks trained on the distilled set alone."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from guard_plugins.data.batches import EpochBatches
from guard_plugins.data.mixing import Mixed, cutmix, mixup
from guard_plugins.distilled import DistilledSet
from guard_plugins.loop import LoopState
from guard_plugins.networks.normalised import Normalised
from guard_plugins.task import Task
from guard_plugins.training.augmentation import augmentation
from guard_plugins.training.protocols import Recipe, recipe_of
from guard_plugins.training.schedules import learning_rate

Labels = Literal["soft", "hard"]


def train_student(task: Task, distilled: DistilledSet, teacher: nn.Module | None, *, stage: str) -> Normalised:
    """Train a fresh network on a distilled set by the recipe of ``student.protocol``; never under the hook.

    Soft labels are the teacher's, computed online on the augmented and mixed batch. Hard labels are cross-entropy,
    mixed like the images.

    Args:
        task: Gives settings (section ``student``), seeds, device and progress.
        distilled: What to learn from.
        teacher: Source of the soft labels, in eval mode; None for hard labels.
        stage: Name of the loop; decides the student's weights and batches.

    Returns:
        The trained student in eval mode.

    Raises:
        TrainingError: If the loss stops being finite.
    """
    settings, recipe = task.config.student, recipe_of(task.config.student)
    student = task.network(settings.network, settings.activation, stage=stage)
    images, labels = distilled.images.to(task.device), distilled.labels.to(task.device)
    batches = EpochBatches(len(images), recipe.batch_size, seeds=task.seeds, stage=stage)
    total = batches.per_epoch * recipe.epochs
    optimizer = _optimizer(student, recipe)
    scheduler = learning_rate(optimizer, recipe.schedule, total)
    augment = augmentation(recipe.augment)
    student.train()
    for step in task.steps(stage, total, state=LoopState(model=student, optimizer=optimizer, scheduler=scheduler)):
        index = batches.index(step.index).to(task.device)
        mixed = _mixed(augment(images[index]), recipe)
        logits = student(mixed.images)
        if teacher is not None:
            loss = soft_label_loss(logits, teacher, mixed.images, recipe.temperature)
            loss = loss * recipe.temperature**2 if recipe.squared else loss
        else:
            loss = F.cross_entropy(logits, mixed.targets(F.one_hot(labels[index], task.classes).float()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        step.log(loss=loss.detach())
    return student.eval()


def soft_label_loss(logits: Tensor, teacher: nn.Module, images: Tensor, temperature: float) -> Tensor:
    """Return KL(softmax(teacher(images) / T) || softmax(logits / T)), batch mean, without the factor T^2."""
    with torch.no_grad():
        target = F.log_softmax(teacher(images) / temperature, dim=1)
    return F.kl_div(F.log_softmax(logits / temperature, dim=1), target, reduction="batchmean", log_target=True)


def _optimizer(student: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(student.parameters(), lr=recipe.lr, momentum=0.9, weight_decay=recipe.weight_decay)
    return torch.optim.AdamW(student.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)


def _mixed(images: Tensor, recipe: Recipe) -> Mixed:
    return cutmix(images, alpha=recipe.cutmix) if recipe.cutmix else mixup(images, alpha=recipe.mixup)
