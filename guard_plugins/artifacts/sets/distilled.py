"""The distilled set on disk: a PNG ImageFolder with metadata.jsonl, and the exact floats in safetensors."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from guard_plugins.artifacts.atomic import made, replacing, write_text
from guard_plugins.artifacts.sets.streamed import write_streamed
from guard_plugins.data.distilled import DistilledSet
from guard_plugins.data.images.whole import require_whole
from guard_plugins.data.soft_labels import logits_of
from guard_plugins.errors import DamagedError, TrainingError
from guard_plugins.files import regular

TENSORS = "distilled.safetensors"
METADATA = "metadata.jsonl"
LARGEST = 4096 * 4096
"""Pixels of the largest image that is read back; no distilled image is near it, a decompression bomb is beyond."""


class DistilledSetError(DamagedError):
    """A distilled set that was given to a command and cannot be read (exit code 2)."""

    exit_code = 2


def save_distilled(folder: Path, distilled: DistilledSet, classes: Sequence[str]) -> list[Path]:
    """Write a distilled set and return the files written.

    ``<folder>/<index>_<class>/<number>.png`` loads with torchvision's ImageFolder (class order kept) and, with
    ``metadata.jsonl``, as a Hugging Face image folder; ``distilled.safetensors`` holds the float images, the labels
    and the soft labels, so that nothing is lost to 8 bits.

    Args:
        folder: Where to write.
        distilled: The set.
        classes: Names of the classes.

    Raises:
        ArtifactError: If something cannot be written.
    """
    names = _file_names(distilled.labels, classes)
    for name, image in zip(names, distilled.images, strict=True):
        made((folder / name).parent)
        with replacing(folder / name) as part:
            Image.fromarray(_as_bytes(image)).save(part, "PNG")
    rows: list[dict[str, Any]] = [
        {"file_name": name, "label": int(label), "class": classes[int(label)]}
        for name, label in zip(names, distilled.labels, strict=True)
    ]
    for row, views in zip(rows, [] if distilled.views is None else distilled.views.tolist(), strict=False):
        row["views"] = views
    lines = [json.dumps(row) for row in rows]
    write_text(folder / METADATA, "\n".join(lines) + "\n")
    tensors = {"images": distilled.images, "labels": distilled.labels}
    if distilled.soft_labels is not None:
        tensors["soft_labels"] = distilled.soft_labels
    if distilled.views is not None:
        tensors["views"] = distilled.views
    if distilled.student_lr is not None:
        tensors["student_lr"] = torch.tensor(distilled.student_lr, dtype=torch.float64)
    if distilled.student_steps is not None:
        tensors["student_steps"] = torch.tensor(distilled.student_steps)
    write_streamed(folder / TENSORS, tensors)
    return [folder / name for name in (*names, METADATA, TENSORS)]


def load_distilled(folder: Path) -> DistilledSet:
    """Return the exact distilled set of a folder; its images lie in the file until they are used.

    Soft labels that are probabilities, which this project never writes, become logits.

    Raises:
        DistilledSetError: If it is missing, damaged or not a distilled set.
    """
    path = folder / TENSORS
    try:
        tensors: dict[str, Any] = load_file(regular(path))
        for name in {"student_lr", "student_steps"} & tensors.keys():
            tensors[name] = tensors[name].item()
        if isinstance(tensors.get("soft_labels"), Tensor):
            tensors["soft_labels"] = logits_of(tensors["soft_labels"])
        return DistilledSet(**tensors)
    except (OSError, SafetensorError, TypeError, ValueError, RuntimeError, TrainingError) as error:
        raise DistilledSetError(f"{path} is not a readable distilled set", seen=_reason(error)) from error


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def load_pngs(folder: Path) -> DistilledSet:
    """Return the distilled set as its PNGs hold it, in bytes and in the order of ``metadata.jsonl``.

    Raises:
        DistilledSetError: If the metadata or an image is missing or damaged, or a file name leaves the folder, is there
            twice or not at all.
    """
    try:
        rows = [json.loads(line) for line in regular(folder / METADATA).read_text(encoding="utf-8").splitlines()]
        paths = [_inside(folder, row) for row in rows]
        images, labels = _read_pngs(paths), torch.tensor([_label(row) for row in rows])
        _require_all(folder, paths)
        views = torch.tensor([row["views"] for row in rows]) if any("views" in row for row in rows) else None
        return DistilledSet(images, labels, views=views)
    except (*_UNREADABLE, TrainingError) as error:
        raise DistilledSetError(
            f"{folder} is not a readable folder of distilled images", seen=_reason(error)
        ) from error


def class_names(folder: Path) -> dict[int, str]:
    """Return the names of the classes by label that a folder's ``metadata.jsonl`` gives; none where it gives none."""
    try:
        rows = [json.loads(line) for line in regular(folder / METADATA).read_text(encoding="utf-8").splitlines()]
        return {_label(row): str(row["class"]) for row in rows if "class" in row}
    except _UNREADABLE:
        return {}


# What damaged or hostile metadata and images raise; a decompression bomb among them.
_UNREADABLE: Final = (
    OSError, ValueError, KeyError, TypeError, RuntimeError, RecursionError, OverflowError, SyntaxError,
    Image.DecompressionBombError,
)  # fmt: skip


def _inside(folder: Path, row: dict[str, Any]) -> Path:
    path: Path = (folder / str(row["file_name"])).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ValueError(f"the file name {row['file_name']!r} leaves the folder")
    return path


def _require_all(folder: Path, paths: Sequence[Path]) -> None:
    """Refuse metadata that was cut off at the end of a line, or joined with itself; other pictures may lie there."""
    if len(set(paths)) < len(paths):
        raise ValueError(f"{METADATA} has {len(paths)} lines for {len(set(paths))} images")
    there = {path.resolve() for path in folder.glob("[0-9]*_*/[0-9]*.png")}
    if left := sorted(there - set(paths)):
        raise ValueError(f"{len(left)} images beside them are not in {METADATA}, such as {left[0].name}")


def _label(row: dict[str, Any]) -> int:
    label = row["label"]
    if type(label) is not int:
        raise ValueError(f"the label {label!r} of {row['file_name']} is not a whole number")
    return label


def _read_pngs(paths: Sequence[Path]) -> Tensor:
    """Return pictures of one shape; filled one by one, since ``stack`` would hold them twice."""
    first = _read_png(paths[0]) if paths else torch.empty(0)
    images = torch.empty((len(paths), *first.shape), dtype=torch.uint8)
    for image, path in zip(images, paths, strict=True):
        read = _read_png(path)
        if read.shape != first.shape:
            raise ValueError(f"{path.name} has the shape {tuple(read.shape)}, the first {tuple(first.shape)}")
        image.copy_(read)
    return images


def _read_png(path: Path) -> Tensor:
    with Image.open(regular(path), formats=["PNG"]) as image:
        if image.width * image.height > LARGEST:
            raise ValueError(f"{path.name} claims {image.width} x {image.height} pixels")
        require_whole(image, path)
        pixels = torch.from_numpy(np.array(image.convert("RGB") if image.mode == "P" else image))
    if pixels.dtype != torch.uint8:
        raise ValueError(f"{path.name} has pixels of {pixels.dtype}, not bytes")
    return pixels[None] if pixels.dim() == 2 else pixels.permute(2, 0, 1)


def _as_bytes(image: Tensor) -> Any:
    pixels = (image * 255).round().to(torch.uint8)
    return pixels[0].numpy() if len(pixels) == 1 else pixels.permute(1, 2, 0).contiguous().numpy()


def _file_names(labels: Tensor, classes: Sequence[str]) -> list[str]:
    width = len(str(len(classes) - 1))
    folders = [f"{i:0{width}d}_{re.sub(r'[^A-Za-z0-9.-]+', '_', name)[:60]}" for i, name in enumerate(classes)]
    seen = [0] * len(classes)
    names = []
    for label in labels.tolist():
        names.append(f"{folders[label]}/{seen[label]:05d}.png")
        seen[label] += 1
    return names
