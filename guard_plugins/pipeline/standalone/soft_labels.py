"""Which labels students of a distilled set learn from, outside of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal

from torch import nn

from guard_plugins.config.explain import flag
from guard_plugins.data.distilled import DistilledSet
from guard_plugins.errors import ConfigError
from guard_plugins.labels.store import StoredLabels
from guard_plugins.runtime.task import Task
from guard_plugins.training.recipes import recipe_of
from guard_plugins.training.student_batches import FixedLabelBatches, StudentBatches, online

_STORED: Final = ("batch_size", "mixup", "cutmix", "augment")
"""Settings of students that stored soft labels decide."""


def batches_of(
    task: Task,
    distilled: DistilledSet,
    path: Path,
    *,
    labels: Literal["hard", "stored", "own"],
    teacher: nn.Module | None,
    given: Mapping[str, Any],
) -> tuple[Callable[[str], StudentBatches], str]:
    """Return what students learn, by the name of their loop, and a sentence that says it.

    Args:
        task: Gives the recipe, seeds, device and classes.
        distilled: The images with their labels.
        path: Where the set was read from; a run's stored labels lie beside its images.
        labels: ``hard``; ``own`` for the set's own soft labels; ``stored`` for those of a run, else the set's own.
        teacher: In eval mode; its labels are used in place of both.
        given: What was asked for of the students' training, by option.

    Raises:
        GuardError: If stored labels are asked for and there are none, or they do not fit.
    """
    if teacher is not None:
        said = "Students learned from a teacher's soft labels, computed at every step."
        return online(task, distilled, teacher), said
    folder = stored_beside(path)
    if labels == "hard":
        if folder is not None or distilled.soft_labels is not None:
            task.monitor.say(
                f"{path} comes with soft labels; its students learn from hard labels "
                "(--student.labels stored uses the soft labels)"
            )
        return online(task, distilled, None), "Students learned from hard labels."
    if folder is not None and labels == "stored":
        stored, said = _stored(task, distilled, path, folder, given)
        return lambda stage: stored, said
    if distilled.soft_labels is None:
        raise ConfigError(
            f"The distilled set {path} comes with no soft labels (--student.labels)",
            do="Give a run done with --student.labels stored or own, or a --teacher; or leave --student.labels out for "
            "hard labels.",
        )
    _require_classes(distilled.soft_labels.shape[-1], task, path)
    said = "Students learned from one soft label per image."
    return lambda stage: FixedLabelBatches(task, distilled, stage=stage), said


def _stored(
    task: Task, distilled: DistilledSet, path: Path, folder: Path, given: Mapping[str, Any]
) -> tuple[StoredLabels, str]:
    decoded, recipe = distilled.decoded(), recipe_of(task.config.student, task.recipes)
    stored = StoredLabels(
        folder, decoded.images, task.device, labels=decoded.labels if recipe.hard else None,
        augmentations=task.augmentations,
    )  # fmt: skip
    _require_classes(stored.card.classes, task, path)
    if given.get("epochs") not in (None, stored.card.epochs):
        raise ConfigError(
            f"The soft labels in {folder} are stored for another number of epochs (--student.epochs)",
            seen=f"{stored.card.epochs} stored, {given['epochs']} asked for", do="Leave --student.epochs out.",
        )  # fmt: skip
    fixed = [flag(("student", name)) for name in _STORED if given.get(name) is not None]
    if fixed:
        raise ConfigError(
            f"The soft labels in {folder} are stored for certain views and batches, so {', '.join(fixed)} would do "
            "nothing",
            do="Leave it out, or give a --teacher in place of --student.labels stored.",
        )
    said = f"Students learned from the soft labels in {folder}, with their views and batches, "
    said += f"by the recipe {task.config.student.protocol} (--student.protocol) at T = {recipe.temperature:g}."
    return stored, said


def images_in(path: Path) -> Path:
    """Return the ``distilled`` folder of a run, or ``path`` itself."""
    inside = path / "distilled"
    return inside if inside.is_dir() else path


def require_one_run(path: Path) -> None:
    """Refuse a folder of runs in the place of one of them.

    Raises:
        ConfigError: If ``path`` holds no images itself, but folders that do as runs.
    """
    runs = sorted(folder.parent.name for folder in path.glob("*/distilled") if folder.is_dir())
    if runs and images_in(path) == path:
        raise ConfigError(
            f"{path} is a folder of runs, not a run (--distilled)",
            seen=", ".join(runs[:5]) + (", ..." if len(runs) > 5 else ""),
            do=f"Give one of them, such as --distilled {path / runs[0]}.",
        )


def stored_beside(path: Path) -> Path | None:
    """Return the folder of stored labels of a run, or of the run whose ``distilled`` folder ``path`` is."""
    folder = (path.parent if path.name == "distilled" else path) / "labels"
    return folder if any(folder.glob("epochs-*.safetensors")) else None


def _require_classes(found: int, task: Task, path: Path) -> None:
    if found != task.classes:
        raise ConfigError(
            f"The soft labels of {path} do not fit the data set {task.data.name!r} (--dataset)",
            seen=f"labels for {found} classes; the data set has {task.classes}",
            do="Name the data set the images were distilled from.",
        )
