"""One file of stored soft labels; every number is checked when it is read."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Final

import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from torch import Tensor

from guard_plugins.artifacts.tensors import write_tensors
from guard_plugins.data.augment import largest_offset
from guard_plugins.errors import DamagedError
from guard_plugins.files import regular
from guard_plugins.labels.layout import Layout

KEY: Final = "guard_labels"
Digest = Annotated[str, Field(max_length=128)]


class Card(Layout):
    """Layout and origin of stored labels, as every file of them says.

    Attributes:
        source: Hash of the distilled images.
        inputs: Fingerprint of everything the labels depend on.
    """

    source: Digest
    inputs: Digest


def write_shard(path: Path, card: Card, epochs: range, tensors: dict[str, Tensor]) -> None:
    """Write the tensors of some epochs.

    Args:
        path: The file.
        card: Layout and origin of the labels.
        epochs: The epochs.
        tensors: Their tensors, as in :meth:`Layout.tensors`.

    Raises:
        ArtifactError: If the file cannot be written.
    """
    about = {"card": card.model_dump(mode="json"), "epoch": epochs.start, "digest": _digest(card, epochs, tensors)}
    write_tensors(path, tensors, {KEY: json.dumps(about)})


def read_card(path: Path) -> Card:
    """Return the card of a file.

    Raises:
        ArtifactError: If it cannot be read, or holds no labels.
    """
    try:
        with safe_open(regular(path), framework="pt") as file:
            return Card.model_validate(json.loads((file.metadata() or {})[KEY])["card"])
    except _UNREADABLE as error:
        raise _damaged(path, f"{type(error).__name__}: {error}") from error


def read_shard(path: Path, card: Card, epochs: range) -> dict[str, Tensor]:
    """Return the tensors of a shard, mapped from the file.

    Args:
        path: The file.
        card: The card it must have.
        epochs: The epochs it must hold.

    Raises:
        ArtifactError: If it is damaged, holds something else, or a number is out of range.
    """
    if read_card(path) != card:
        raise _damaged(path, "it belongs to other images, another teacher or other settings")
    expected = card.tensors(len(epochs))
    try:
        with safe_open(regular(path), framework="pt") as file:
            about = json.loads(file.metadata()[KEY])
            names = set(file.keys())
            if about["epoch"] != epochs.start or names != set(expected):
                raise ValueError(f"epoch {about['epoch']!r}, tensors {', '.join(sorted(names))}")
            tensors = {name: file.get_tensor(name) for name in expected}
    except _UNREADABLE as error:
        raise _damaged(path, f"{type(error).__name__}: {error}") from error
    for name, (dtype, shape) in expected.items():
        if tensors[name].dtype != dtype or tuple(tensors[name].shape) != shape:
            seen = f"{name} is {tensors[name].dtype} of {tuple(tensors[name].shape)}, not {dtype} of {shape}"
            raise _damaged(path, seen)
    if about.get("digest") != _digest(card, epochs, tensors):
        raise _damaged(path, "its numbers do not match their hash")
    wrong = _nonsense(card, tensors)
    if wrong:
        raise _damaged(path, wrong)
    return tensors


# What damaged or hostile files raise; pydantic's errors are ValueErrors.
_UNREADABLE: Final = (
    OSError, SafetensorError, KeyError, ValueError, TypeError, AttributeError, RuntimeError, OverflowError,
)  # fmt: skip


def _damaged(path: Path, seen: str) -> DamagedError:
    return DamagedError(
        f"{path} is damaged, or does not belong to these stored labels", seen=seen,
        do="Delete it and go on with `guard-run --resume RUN`, which labels only what is missing.",
    )  # fmt: skip


def _digest(card: Card, epochs: range, tensors: dict[str, Tensor]) -> str:
    state = hashlib.blake2b(f"{card.model_dump_json()} {epochs.start} {epochs.stop}".encode(), digest_size=16)
    for name in sorted(tensors):
        state.update(tensors[name].contiguous().view(-1).view(torch.uint8).numpy().data)
    return state.hexdigest()


def _nonsense(card: Card, tensors: dict[str, Tensor]) -> str:
    """Return what is wrong with the numbers, or an empty string."""
    height, width = card.size
    limits = {"rows": (0, card.images - 1), "partner": (0, card.batch - 1), "share": (0.0, 1.0)}
    for name, (low, high) in limits.items():
        if name in tensors and not _within(tensors[name], low, high):
            return f"{name} outside of {low}..{high}"
    if not bool(torch.isfinite(tensors["logits"]).all()):
        return "logits that are not finite"
    if card.window == 2 and not _within(tensors["window"], -largest_offset(card.size), largest_offset(card.size)):
        return f"windows shifted by more than {largest_offset(card.size)} pixels"
    if card.window == 4:
        top, left, rows, columns = tensors["window"].unbind(-1)
        empty = bool(((rows == 0) | (columns == 0)).any())
        if empty or not (_spans(top, rows, height) and _spans(left, columns, width)):
            return "windows that leave the image"
    if "numbers" in tensors and not bool(torch.isfinite(tensors["numbers"]).all()):
        return "numbers of an augmentation that are not finite"
    if card.mix == "cutmix":
        top, bottom, left, right = tensors["box"].unbind(-1)
        if not (_spans(top, bottom - top, height) and _spans(left, right - left, width)):
            return "boxes that leave the image"
    return ""


def _within(values: Tensor, low: float, high: float) -> bool:
    return bool(((values >= low) & (values <= high)).all())


def _spans(start: Tensor, length: Tensor, size: int) -> bool:
    """Return whether every span (int16) lies within 0..size."""
    start, length = start.int(), length.int()
    return bool(((start >= 0) & (length >= 0) & (start + length <= size)).all())
