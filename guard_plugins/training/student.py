"""Students: fresh networks trained on the distilled set alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from guard_plugins.networks.embedding import WithFeatures
from guard_plugins.networks.normalised import Normalised
from guard_plugins.runtime.items import do_items
from guard_plugins.runtime.loop import LoopState
from guard_plugins.runtime.task import Task
from guard_plugins.training.diverged import require_finite_logits
from guard_plugins.training.recipes import Recipe, recipe_of
from guard_plugins.training.schedules import learning_rate
from guard_plugins.training.student_batches import StudentBatch, StudentBatches
from guard_plugins.training.weight_average import WeightAverage

SMOOTHING: Final = 0.1
"""Share of a label that the other classes get in GIFT's refined labels."""


def train_students(task: Task, batches: Callable[[str], StudentBatches], *, name: str) -> list[Normalised]:
    """Train ``student.count`` students, each from other weights.

    Args:
        task: As for :func:`train_student`.
        batches: From the name of a student's loop to its batches.
        name: Prefix of the loops' names; the number of the student follows.

    Raises:
        TrainingError: If a loss stops being finite.
    """
    stages = [f"{name}/{number}" for number in _numbers(task)]
    return [train_student(task, batches(stage), stage=stage) for stage in stages]


def share_students(task: Task, kinds: Mapping[str, Callable[[str], StudentBatches]]) -> None:
    """Train the students that are this process's share; :func:`train_students` then finds them finished.

    The state at the end of a student's loop is kept with the run's checkpoints.

    Args:
        task: As for :func:`train_student`.
        kinds: From the prefix of the loops' names to the batches, as for :func:`train_students`.

    Raises:
        ShareDone: If the process has a share, when that is done.
        TrainingError: If a loss stops being finite.
    """
    items = [(f"{name}/{number}", batches) for name, batches in kinds.items() for number in _numbers(task)]
    kept, names = task.keeper.checkpoints, [stage for stage, _ in items]

    def make(number: int) -> None:
        stage, batches = items[number]
        with kept.making(stage, end=True):
            train_student(task, batches(stage), stage=stage)
        kept.save(f"item/{stage}", 1, dict)

    do_items(
        task.keeper, names, done=lambda number: kept.peek(f"item/{names[number]}") is not None, make=make,
        say=task.monitor.say,
    )  # fmt: skip


def _numbers(task: Task) -> range:
    return range(task.config.student.count)


def train_student(task: Task, batches: StudentBatches, *, stage: str) -> Normalised:
    """Train a fresh network by the recipe of ``student.protocol``, without the hook.

    Args:
        task: Gives settings (section ``student``), seeds, device and progress.
        batches: The batches. The loss is the recipe's for soft labels and the cross-entropy for hard ones.
        stage: Name of the loop; the student's first weights depend on it.

    Returns:
        The trained student in eval mode.

    Raises:
        TrainingError: If the loss stops being finite, or the student's logits are not.
    """
    settings, recipe = task.config.student, recipe_of(task.config.student, task.recipes)
    student = task.network(settings.network, settings.activation, stage=stage)
    optimizer = _optimizer(student, recipe)
    scheduler = learning_rate(optimizer, recipe.schedule, batches.total)
    student.train()
    average = WeightAverage(student, decay=recipe.ema) if recipe.ema else None
    beside = {} if average is None else {"average": average}
    losses = _Losses(student, recipe, settings.feature_weight)
    state = LoopState(model=student, optimizer=optimizer, scheduler=scheduler, **beside)
    for step in task.steps(stage, batches.total, state=state):
        loss = losses.of(batches.batch(step.index))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        if average is not None:
            average.update(student)
        step.log(loss=loss.detach())
    if average is not None:
        average.give(student)
    require_finite_logits(student, task.data, who="student")
    return student.eval()


def feature_loss(features: Tensor, teacher: Tensor) -> Tensor:
    """Return 1 less the mean cosine between a student's features and its teacher's (RRM, arXiv 2202.09994).

    Args:
        features: The student's, shape (B, D).
        teacher: The teacher's, shape (B, D).
    """
    return 1 - F.cosine_similarity(features, teacher, dim=1).mean()


class _Losses:
    """What a student minimises: the recipe's loss and, where a batch has the teacher's features, the features' loss.

    Args:
        student: The student.
        recipe: Its recipe.
        feature_weight: Weight of the features' loss.
    """

    def __init__(self, student: nn.Module, recipe: Recipe, feature_weight: float) -> None:
        self._student, self._recipe, self._weight = student, recipe, feature_weight
        self._both = WithFeatures(student, option="--student.network") if feature_weight else None

    def of(self, batch: StudentBatch) -> Tensor:
        """Return the loss on a batch, a scalar."""
        if self._both is None or batch.features is None:
            return student_loss(self._student(batch.images), batch, self._recipe)
        logits, features = self._both(batch.images)
        return student_loss(logits, batch, self._recipe) + self._weight * feature_loss(features, batch.features)


def soft_label_loss(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return KL(softmax(teacher / T) || softmax(logits / T)), averaged over the batch and without the factor T².

    Args:
        logits: The student's, shape (B, K).
        teacher: The teacher's, shape (B, K).
        temperature: T.
    """
    target = F.log_softmax(teacher / temperature, dim=1)
    return F.kl_div(F.log_softmax(logits / temperature, dim=1), target, reduction="batchmean", log_target=True)


def student_loss(logits: Tensor, batch: StudentBatch, recipe: Recipe) -> Tensor:
    """Return the recipe's loss on a batch, a scalar.

    Args:
        logits: The student's, shape (B, K).
        batch: The targets; with ``classes`` where the recipe has a ``hard`` loss.
        recipe: Which loss.
    """
    if not batch.soft:
        return F.cross_entropy(logits, batch.targets)
    if recipe.loss == "cosine":
        return cosine_loss(logits, batch.targets, batch.classes, hard=recipe.hard)
    if recipe.loss == "mse":
        loss = F.mse_loss(logits, batch.targets)
    else:
        loss = soft_label_loss(logits, batch.targets, recipe.temperature)
        loss = loss * recipe.temperature**2 if recipe.squared else loss
    if not recipe.hard:
        return loss
    assert batch.classes is not None  # since the batches know the recipe
    return loss + recipe.hard * F.cross_entropy(logits, batch.classes)


def cosine_loss(logits: Tensor, teacher: Tensor, classes: Tensor | None, *, hard: float) -> Tensor:
    """Return 1 less the mean cosine between a student's logits and the refined labels of GIFT (arXiv 2405.14736).

    Args:
        logits: The student's, shape (B, K).
        teacher: The teacher's, shape (B, K).
        classes: One-hot labels, mixed like the images, shape (B, K); None where ``hard`` is 0.
        hard: Weight of the classes' direction beside the teacher's.
    """
    target = F.normalize(teacher, dim=1)
    if classes is not None and hard:
        smoothed = classes * (1 - SMOOTHING) + (1 - classes) * SMOOTHING / (classes.shape[1] - 1)
        target = target + hard * F.normalize(smoothed, dim=1)
    return 1 - F.cosine_similarity(logits, target, dim=1).mean()


def _optimizer(student: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(student.parameters(), lr=recipe.lr, momentum=0.9, weight_decay=recipe.weight_decay)
    return torch.optim.AdamW(student.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
