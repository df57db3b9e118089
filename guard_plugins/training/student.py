"""Students: fresh networks trained on the distilled set alone."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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
    batch = min(settings.batch_size, len(images))
    per_epoch = len(images) // batch
    total = per_epoch * settings.epochs
    adam = torch.optim.AdamW(student.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    scheduler = learning_rate(adam, "one-cycle", total)
    augment = augmentation(settings.augment)
    student.train()
    for step in task.steps(stage, total, state=LoopState(model=student, optimizer=adam, scheduler=scheduler)):
        epoch, position = divmod(step.index, per_epoch)
        order = torch.randperm(len(images), generator=task.seeds.generator(stage, "order", epoch))
        index = order[position * batch : (position + 1) * batch].to(task.device)
        x, targets = _mixed(augment(images[index]), labels[index], task.classes, settings.mixup)
        loss = _soft_loss(student(x), teacher, x, settings.temperature) if teacher else _hard_loss(student(x), targets)
        adam.zero_grad()
        loss.backward()
        adam.step()
        scheduler.step()
        step.log(loss=loss.detach())
    return student.eval()


def _mixed(images: Tensor, labels: Tensor, classes: int, alpha: float) -> tuple[Tensor, Tensor]:
    """Return MixUp of a batch (Zhang et al. 2018) and of its one-hot labels, one lambda for the whole batch."""
    targets = F.one_hot(labels, classes).to(images.dtype)
    if alpha == 0:
        return images, targets
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    other = torch.randperm(len(images), device=images.device)
    return images.lerp(images[other], 1 - share), targets.lerp(targets[other], 1 - share)


def _soft_loss(logits: Tensor, teacher: nn.Module, images: Tensor, temperature: float) -> Tensor:
    with torch.no_grad():
        target = F.log_softmax(teacher(images) / temperature, dim=1)
    return F.kl_div(F.log_softmax(logits / temperature, dim=1), target, reduction="batchmean", log_target=True)


def _hard_loss(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits, targets)
