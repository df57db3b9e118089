"""Students: fresh networks trained on the distilled set alone."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from guard_plugins.networks.normalised import Normalised
from guard_plugins.runtime.loop import LoopState
from guard_plugins.runtime.task import Task
from guard_plugins.training.recipes import Recipe, recipe_of
from guard_plugins.training.schedules import learning_rate
from guard_plugins.training.student_batches import Lesson, Lessons


def train_students(task: Task, lessons: Callable[[str], Lessons], *, name: str) -> list[Normalised]:
    """Train ``student.count`` students, each from weights of its own.

    Args:
        task: As for :func:`train_student`.
        lessons: Returns what a student learns, by the name of its loop.
        name: What the loops are called, with the student's number.

    Raises:
        TrainingError: If a loss stops being finite.
    """
    stages = [f"{name}/{number}" for number in range(task.config.student.count)]
    return [train_student(task, lessons(stage), stage=stage) for stage in stages]


def train_student(task: Task, lessons: Lessons, *, stage: str) -> Normalised:
    """Train a fresh network by the recipe of ``student.protocol``; never under the hook.

    Args:
        task: Gives settings (section ``student``), seeds, device and progress.
        lessons: What to learn; soft labels are learned by KL, hard labels by cross-entropy.
        stage: Name of the loop; decides the student's weights.

    Returns:
        The trained student in eval mode.

    Raises:
        TrainingError: If the loss stops being finite.
    """
    settings, recipe = task.config.student, recipe_of(task.config.student)
    student = task.network(settings.network, settings.activation, stage=stage)
    optimizer = _optimizer(student, recipe)
    scheduler = learning_rate(optimizer, recipe.schedule, lessons.total)
    student.train()
    state = LoopState(model=student, optimizer=optimizer, scheduler=scheduler)
    for step in task.steps(stage, lessons.total, state=state):
        lesson = lessons.lesson(step.index)
        loss = _loss(student(lesson.images), lesson, recipe)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        step.log(loss=loss.detach())
    return student.eval()


def soft_label_loss(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return KL(softmax(teacher / T) || softmax(logits / T)) of two (B, K) of logits, batch mean, without T^2."""
    target = F.log_softmax(teacher / temperature, dim=1)
    return F.kl_div(F.log_softmax(logits / temperature, dim=1), target, reduction="batchmean", log_target=True)


def _loss(logits: Tensor, lesson: Lesson, recipe: Recipe) -> Tensor:
    if not lesson.soft:
        return F.cross_entropy(logits, lesson.answers)
    loss = soft_label_loss(logits, lesson.answers, recipe.temperature)
    return loss * recipe.temperature**2 if recipe.squared else loss


def _optimizer(student: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(student.parameters(), lr=recipe.lr, momentum=0.9, weight_decay=recipe.weight_decay)
    return torch.optim.AdamW(student.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
