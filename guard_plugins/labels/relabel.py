"""The relabel stage (FKD, Shen & Xing 2022, as in SRe2L): every lesson of a student, drawn and labelled once."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from guard_plugins.artifacts.atomic import made
from guard_plugins.artifacts.formatting import byte_count
from guard_plugins.data.distilled import DistilledSet
from guard_plugins.errors import ArtifactError, TrainingError
from guard_plugins.labels.layout import HEADER, DType, Layout
from guard_plugins.labels.shard import Card, read_shard, write_shard
from guard_plugins.labels.store import hash_of
from guard_plugins.runtime.monitor import Tracker
from guard_plugins.runtime.task import Task
from guard_plugins.training.recipes import recipe_of
from guard_plugins.training.student_batches import Drawn, OnlineLessons

STAGE: Final = "student/0"
"""The loop whose lessons are stored. All students of a run learn from these: same views, other weights."""


def promise_room(task: Task, folder: Path) -> str:
    """Return what storing a task's labels costs, before there is anything to label.

    Args:
        task: Gives settings, classes and image size.
        folder: Where they will go, in a folder that exists.

    Raises:
        ArtifactError: If the disk has no room for them.
    """
    layout = layout_of(task)
    require_room(folder.parent, layout, epochs=layout.epochs)
    return f"soft labels will be stored in {folder}: {layout.cost()}"


def layout_of(task: Task) -> Layout:
    """Return what a task's stored labels will consist of."""
    return Layout.of(
        recipe_of(task.config.student), images=task.ipc * task.classes, classes=task.classes,
        size=task.data.image_shape[1:],
    )  # fmt: skip


def bytes_needed(layout: Layout, epochs: int) -> int:
    """Return the bytes that ``epochs`` passes of a layout take on the disk."""
    return layout.bytes_of(epochs) + HEADER * len(layout.shards())


def require_room(folder: Path, layout: Layout, *, epochs: int) -> None:
    """Check that the disk has room for ``epochs`` passes of a layout.

    Args:
        folder: Where they go.
        layout: What they consist of.
        epochs: How many are still to be written.

    Raises:
        ArtifactError: If it has not.
    """
    need = bytes_needed(layout, epochs)
    free = shutil.disk_usage(folder).free
    if free < need:
        raise ArtifactError(
            f"The disk has no room for the stored labels in {folder}",
            seen=f"{byte_count(free)} free, {byte_count(need)} needed: {layout.cost()}",
            do="Free some space, choose another folder with --output, lower --student.epochs, or leave "
            "--student.labels at online, which stores nothing.",
        )


def relabel(
    task: Task, distilled: DistilledSet, teacher: nn.Module, folder: Path, *, inputs: str, dtype: DType = "float16"
) -> list[Path]:
    """Store the lessons of the first student, and return the files.

    Shards that are there, whole and of the same inputs stay as they are.

    Args:
        task: Gives the recipe, seeds, device and progress.
        distilled: What is labelled.
        teacher: In eval mode, on the task's device.
        folder: Where the files go.
        inputs: Fingerprint of everything the labels depend on.
        dtype: Type of the logits.

    Raises:
        ArtifactError: If the disk is full.
        TrainingError: If a logit is no finite number of that type.
        StoppedError: If the run was asked to stop; finished shards stay.
    """
    made(folder)
    recipe, size = recipe_of(task.config.student), (distilled.images.shape[-2], distilled.images.shape[-1])
    layout = Layout.of(recipe, images=len(distilled.images), classes=task.classes, size=size, dtype=dtype)
    card = Card(**layout.model_dump(), source=hash_of(distilled.images), inputs=inputs)
    shards = {folder / name: epochs for name, epochs in card.shards().items()}
    for path in set(folder.glob("*.safetensors")) - set(shards):
        path.unlink()
    missing = {path: epochs for path, epochs in shards.items() if not _stands(task, path, card, epochs)}
    left = sum(map(len, missing.values()))
    require_room(folder, layout, epochs=left)
    lessons = OnlineLessons(task, distilled, recipe, teacher, stage=STAGE)
    with task.monitor.track("relabel", card.epochs, done=card.epochs - left) as progress:
        for path, epochs in missing.items():
            write_shard(path, card, epochs, _labelled(task, lessons, card, epochs, progress))
    return list(shards)


def _stands(task: Task, path: Path, card: Card, epochs: range) -> bool:
    if not path.exists():
        return False
    try:
        read_shard(path, card, epochs)
    except ArtifactError as error:
        task.monitor.say(f"{path.name} is labelled again: {error.seen}")
        return False
    return True


def _labelled(task: Task, lessons: OnlineLessons, card: Card, epochs: range, progress: Tracker) -> dict[str, Tensor]:
    """Return the tensors of a shard."""
    tensors = {name: torch.empty(shape, dtype=dtype) for name, (dtype, shape) in card.tensors(len(epochs)).items()}
    for epoch in epochs:
        for number in range(card.per_epoch):
            task.keeper.stop.check()
            step = epoch * card.per_epoch + number
            task.seeds.reset(STAGE, step)
            drawn = lessons.draw(step)
            logits = lessons.given(drawn).answers.to("cpu", getattr(torch, card.dtype))
            if not bool(torch.isfinite(logits).all()):
                raise TrainingError(
                    f"The teacher's logits are not finite as {card.dtype}, in epoch {epoch}",
                    do="Train the teacher with a lower learning rate, or leave --student.labels at online.",
                )
            for name, values in {"logits": logits, **_numbers(drawn)}.items():
                tensors[name][step - epochs.start * card.per_epoch] = values
        progress.advance()
    return tensors


def _numbers(drawn: Drawn) -> dict[str, Tensor]:
    """Return the random numbers of a lesson by the names of a shard's tensors."""
    found = {"rows": drawn.rows, "window": drawn.view.window, "flipped": drawn.view.flipped}
    if drawn.mix is not None:
        box = drawn.mix.box
        found |= {"partner": drawn.mix.partner, "share": drawn.mix.share[0], "box": None if box is None else box[0]}
    return {name: values for name, values in found.items() if values is not None}
