"""Checks of the tensors in other code bases' files, made before anything is computed from them."""

from __future__ import annotations

from pathlib import Path
from typing import Final, TypeGuard

import torch
from torch import Tensor

from guard_plugins.artifacts.sets.distilled import DistilledSetError
from guard_plugins.data.soft_labels import are_probabilities, logits_of

MOST_BYTES: Final = 16 * 2**30
"""Size of the largest tensor that is read, as float32."""

_UNUSUAL: Final = "Save it as an ordinary CPU tensor: torch.save(tensor.to_dense().dequantize().cpu().clone(), FILE)."


def images_of(value: object, path: Path) -> Tensor:
    """Return ``value`` as images (N, C, H, W) that own their memory: float32, or int64 for any integers.

    Raises:
        DistilledSetError: If it is not such a tensor, is empty, or holds NaN.
    """
    if not (is_tensor(value) and value.dim() == 4 and value.numel() and value.shape[1] in (1, 3)):
        raise _wrong(path, "images (N, 1 or 3, H, W)", value)
    images = _ordinary(value, path, "images")
    if images.dtype == torch.bool:
        raise _wrong(path, "images of numbers", value)
    images = images.float() if images.is_floating_point() else images.long()
    if images.is_floating_point() and not bool(torch.isfinite(images).all()):
        raise DistilledSetError(f"The images in {path} are not finite numbers")
    return images.clone()


def labels_of(value: object, count: int, path: Path) -> Tensor:
    """Return ``value`` as int64 labels (count,).

    A column (count, 1), whole numbers stored as floats, and one-hot rows of whole numbers are read as they are meant.

    Args:
        value: What the file holds.
        count: Number of images.
        path: The file, for messages.

    Raises:
        DistilledSetError: If it is not a tensor of whole numbers, holds several of them for an image, or a label is
            negative.
    """
    if not (is_tensor(value) and value.dim() in (1, 2) and len(value) == count and value.numel()):
        raise _wrong(path, f"whole-number labels ({count},)", value)
    labels = _ordinary(value, path, "labels")
    if labels.dim() == 2:
        labels = labels[:, 0] if labels.shape[1] == 1 else _hot(labels, path)
    if not (_whole(labels) or _are_whole(labels)):
        raise _wrong(path, f"whole-number labels ({count},)", value)
    labels = labels.long().clone()
    if int(labels.min()) < 0:
        raise DistilledSetError(f"The labels in {path} must not be negative", seen=f"smallest: {int(labels.min())}")
    return labels


def _hot(rows: Tensor, path: Path) -> Tensor:
    """Return the classes of rows of whole numbers or truths of which one is not 0."""
    rows = rows.long()
    if not bool(((rows != 0).sum(1) == 1).all()):
        raise DistilledSetError(
            f"The labels in {path} are several whole numbers an image, and which is the class is not known",
            seen=f"shape {tuple(rows.shape)}, of which the first row is {rows[0].tolist()[:8]}",
            do="Give one number for each image, or one-hot rows.",
        )
    return (rows != 0).long().argmax(1)


def classes_and_logits(value: object, count: int, path: Path) -> tuple[Tensor, Tensor | None]:
    """Return the class of every image, and its soft label as logits where the file holds soft labels (N, K).

    Rows that are probabilities become their logarithms; one-hot rows are classes and nothing more.

    Args:
        value: What the file holds.
        count: Number of images.
        path: The file, for messages.

    Raises:
        DistilledSetError: If it is neither whole-number labels (N,) nor finite soft labels (N, K).
    """
    if not (is_tensor(value) and value.dim() == 2 and value.is_floating_point() and value.shape[1] != 1):
        return labels_of(value, count, path), None
    if len(value) != count or value.shape[1] < 2:
        raise _wrong(path, f"soft labels ({count}, classes)", value)
    soft = _ordinary(value, path, "soft labels").float().clone()
    if not bool(torch.isfinite(soft).all()):
        raise DistilledSetError(f"The soft labels in {path} are not finite numbers")
    classes = soft.argmax(1)
    certain = are_probabilities(soft) and bool((soft.max(1).values == 1).all())
    return classes, None if certain else logits_of(soft)


def is_tensor(value: object) -> TypeGuard[Tensor]:
    """Return whether ``value`` is a tensor with a shape; nested ones have none."""
    return isinstance(value, Tensor) and not value.is_nested


def _ordinary(value: Tensor, path: Path, what: str) -> Tensor:
    """Return a detached tensor that can be computed with; refuse kinds that cannot, and views larger than their data.

    Raises:
        DistilledSetError: If it is meta, sparse, quantised, complex, or larger than what is stored.
    """
    kind = next((name for name, found in _kinds(value).items() if found), None)
    if kind:
        raise DistilledSetError(
            f"The {what} in {path} cannot be used: the tensor is {kind}",
            seen=f"{value.dtype} {tuple(value.shape)}, {value.layout}, on {value.device}", do=_UNUSUAL,
        )  # fmt: skip
    claimed, stored = value.numel() * value.element_size(), value.untyped_storage().nbytes()
    if claimed > stored or value.numel() * 4 > MOST_BYTES:
        raise DistilledSetError(
            f"The {what} in {path} are a view that repeats its data, or too large to read",
            seen=f"{tuple(value.shape)} takes {claimed:,} bytes; {stored:,} are stored",
            do="Save a copy that holds every image once: torch.save(tensor.clone(), FILE).",
        )
    return value.detach()


def _kinds(value: Tensor) -> dict[str, bool]:
    return {
        "without data (a meta tensor)": value.is_meta,
        "sparse": value.layout != torch.strided,
        "quantised": value.is_quantized,
        "complex": value.is_complex(),
    }


def _whole(value: Tensor) -> bool:
    return not (value.is_floating_point() or value.is_complex() or value.is_quantized or value.dtype == torch.bool)


def _are_whole(value: Tensor) -> bool:
    """Return whether floating-point numbers are whole, and no infinity."""
    numbers = value.double() if value.is_floating_point() else value
    return value.is_floating_point() and bool((torch.isfinite(numbers) & (numbers == numbers.round())).all())


def _wrong(path: Path, wanted: str, value: object) -> DistilledSetError:
    seen = f"{value.dtype} {tuple(value.shape)}" if is_tensor(value) else type(value).__name__
    return DistilledSetError(f"{path} does not hold {wanted}", seen=seen)
