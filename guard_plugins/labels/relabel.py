"""The relabel stage (FKD, Shen & Xing 2022, as in SRe2L): makes every batch of a student once and stores its labels."""

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
from guard_plugins.runtime.items import do_items
from guard_plugins.runtime.monitor import Tracker
from guard_plugins.runtime.task import Task
from guard_plugins.training.recipes import recipe_of
from guard_plugins.training.student_batches import BatchParameters, OnlineBatches

STAGE: Final = "student/0"
"""The loop whose batches are stored. All students of a run learn from them; only their first weights differ."""


def storage_cost(task: Task, folder: Path) -> str:
    """Return what storing a task's labels will take, in a sentence, and check that there is room for them.

    Args:
        task: Gives settings, classes and image size.
        folder: Where they will go; its parent must exist.

    Raises:
        ArtifactError: If there is not enough free space.
    """
    layout = layout_of(task)
    require_room(folder.parent, layout, epochs=layout.epochs)
    return f"soft labels will be stored in {folder}: {layout.cost()}"


def layout_of(task: Task) -> Layout:
    """Return the layout of a task's stored labels."""
    return Layout.of(
        recipe_of(task.config.student, task.recipes), images=task.ipc * task.classes, classes=task.classes,
        size=task.data.image_shape[1:], augmentations=task.augmentations,
    )  # fmt: skip


def bytes_needed(layout: Layout, epochs: int) -> int:
    """Return the bytes that ``epochs`` epochs of a layout take on disk, headers included."""
    return layout.bytes_of(epochs) + HEADER * len(layout.shards())


def require_room(folder: Path, layout: Layout, *, epochs: int) -> None:
    """Check that there is enough free space for some epochs of a layout.

    Args:
        folder: Where they go.
        layout: Their layout.
        epochs: Number of epochs that are still to be written.

    Raises:
        ArtifactError: If there is not.
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
    """Store the batches of the first student with the teacher's logits, and return the files.

    Files that are complete and belong to the same inputs are kept.

    Args:
        task: Gives the recipe, seeds, device and progress.
        distilled: The images to label.
        teacher: In eval mode, on the task's device.
        folder: Where the files go.
        inputs: Fingerprint of everything the labels depend on.
        dtype: Type of the logits.

    Raises:
        ArtifactError: If the disk is full.
        TrainingError: If a logit is not finite in that type.
        StoppedError: If the run was asked to stop; finished files are kept.
        ShareDone: If the process has a share of the files, when that is written.
    """
    made(folder)
    recipe, size = (
        recipe_of(task.config.student, task.recipes),
        (distilled.images.shape[-2], distilled.images.shape[-1]),
    )
    layout = Layout.of(
        recipe, images=len(distilled.images), classes=task.classes, size=size, dtype=dtype,
        augmentations=task.augmentations,
    )  # fmt: skip
    card = Card(**layout.model_dump(), source=hash_of(distilled.images), inputs=inputs)
    shards = {folder / name: epochs for name, epochs in card.shards().items()}
    for path in set(folder.glob("*.safetensors")) - set(shards):
        path.unlink()
    missing = {path: epochs for path, epochs in shards.items() if not _is_complete(task, path, card, epochs)}
    left = sum(map(len, missing.values()))
    require_room(folder, layout, epochs=left)
    batches = OnlineBatches(task, distilled, recipe, teacher, stage=STAGE)
    if task.keeper.share is not None or task.keeper.ranks is not None:
        _label_share(task, batches, card, shards, missing)
        missing = {}
    with task.monitor.track("relabel", card.epochs, done=card.epochs - left) as progress:
        for path, epochs in missing.items():
            write_shard(path, card, epochs, _labelled(task, batches, card, epochs, progress))
    return list(shards)


def _label_share(
    task: Task, batches: OnlineBatches, card: Card, shards: dict[Path, range], missing: dict[Path, range]
) -> None:
    """Write the files of this process's share; the first of several ranks has all written.

    Raises:
        ShareDone: When they are written.
    """
    paths = list(shards)

    def make(number: int) -> None:
        path = paths[number]
        with task.monitor.track(path.stem, len(shards[path])) as progress:
            write_shard(path, card, shards[path], _labelled(task, batches, card, shards[path], progress))

    do_items(
        task.keeper, [f"relabel/{path.stem}" for path in paths], make=make, say=task.monitor.say,
        done=lambda number: (
            paths[number] not in missing or _is_complete(task, paths[number], card, shards[paths[number]])
        ),
    )  # fmt: skip


def _is_complete(task: Task, path: Path, card: Card, epochs: range) -> bool:
    if not path.exists():
        return False
    try:
        read_shard(path, card, epochs)
    except ArtifactError as error:
        task.monitor.say(f"{path.name} is labelled again: {error.seen}")
        return False
    return True


def _labelled(task: Task, batches: OnlineBatches, card: Card, epochs: range, progress: Tracker) -> dict[str, Tensor]:
    """Return the tensors of a file: the batches of some epochs, labelled."""
    tensors = {name: torch.empty(shape, dtype=dtype) for name, (dtype, shape) in card.tensors(len(epochs)).items()}
    for epoch in epochs:
        for number in range(card.per_epoch):
            task.keeper.stop.check()
            step = epoch * card.per_epoch + number
            task.seeds.reset(STAGE, step)
            parameters = batches.draw(step)
            logits = batches.apply(parameters).targets.to("cpu", getattr(torch, card.dtype))
            if not bool(torch.isfinite(logits).all()):
                raise TrainingError(
                    f"The teacher's logits are not finite as {card.dtype}, in epoch {epoch}",
                    do="Train the teacher with a lower learning rate, or leave --student.labels at online.",
                )
            for name, values in {"logits": logits, **_stored(parameters)}.items():
                tensors[name][step - epochs.start * card.per_epoch] = values
        progress.advance()
    return tensors


def _stored(parameters: BatchParameters) -> dict[str, Tensor]:
    """Return the random choices of a batch under the names of a file's tensors."""
    view, mix = parameters.view, parameters.mix
    found = {"rows": parameters.rows, "window": view.window, "flipped": view.flipped, "numbers": view.numbers}
    if mix is not None:
        box = None if mix.box is None else mix.box[0]
        found |= {"partner": mix.partner, "share": mix.share[0], "box": box}
    return {name: values for name, values in found.items() if values is not None}
