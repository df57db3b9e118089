"""Students: fresh networks trained on the distilled set alone."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from guard_plugins.data.batches import EpochBatches
from guard_plugins.data.mixing import mixup
from guard_plugins.distilled import DistilledSet
from guard_plugins.loop import LoopState
from guard_plugins.networks.normalised import Normalised
from guard_plugins.task import Task
from guard_plugins.training.augmentation import augmentation
from guard_plugins.training.schedules import learning_rate

Labels = Literal["soft", "hard"]


def train_student(task: Task, distilled: DistilledSet, teacher: nn.Module | None, *, stage: str) -> Normalised:
    """Train a fresh network on a distilled set; never under the hook.

    Soft labels are the teacher's, computed online on the augmented and mixed batch, through
    KL(softmax(teacher / T) || softmax(student / T)), batch mean, without the factor T^2 (SRe2L, arXiv 2306.13092).
    Hard labels are cross-entropy, mixed like the images.

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
    settings = task.config.student
    student = task.network(settings.network, settings.activation, stage=stage)
    images, labels = distilled.images.to(task.device), distilled.labels.to(task.device)
    batches = EpochBatches(len(images), settings.batch_size, seeds=task.seeds, stage=stage)
    total = batches.per_epoch * settings.epochs
    adam = torch.optim.AdamW(student.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    scheduler = learning_rate(adam, "one-cycle", total)
    augment = augmentation(settings.augment)
    student.train()
    for step in task.steps(stage, total, state=LoopState(model=student, optimizer=adam, scheduler=scheduler)):
        index = batches.index(step.index).to(task.device)
        mixed = mixup(augment(images[index]), alpha=settings.mixup)
        if teacher is not None:
            loss = soft_label_loss(student(mixed.images), teacher, mixed.images, settings.temperature)
        else:
            targets = mixed.targets(F.one_hot(labels[index], task.classes).float())
            loss = F.cross_entropy(student(mixed.images), targets)
        adam.zero_grad()
        loss.backward()
        adam.step()
        scheduler.step()
        step.log(loss=loss.detach())
    return student.eval()


def soft_label_loss(logits: Tensor, teacher: nn.Module, images: Tensor, temperature: float) -> Tensor:
    """Return KL(softmax(teacher(images) / T) || softmax(logits / T)), batch mean, without the factor T^2."""
    with torch.no_grad():
        target = F.log_softmax(teacher(images) / temperature, dim=1)
    return F.kl_div(F.log_softmax(logits / temperature, dim=1), target, reduction="batchmean", log_target=True)
