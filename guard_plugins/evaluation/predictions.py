"""A model's predictions on images; logits that are not finite are an error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from guard_plugins.errors import DataError, TrainingError
from guard_plugins.runtime.eval_mode import borrowed, device_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from guard_plugins.evaluation.images import Images


@torch.no_grad()
def logits_of(model: nn.Module, images: Tensor, *, what: str = "clean images") -> Tensor:
    """Return the logits (B, K) of one batch.

    Args:
        model: From images in [0, 1] to logits.
        images: Shape (B, C, H, W).
        what: What to call the images in an error.

    Raises:
        TrainingError: If a logit is NaN or infinite, since the argmax of such a row means nothing.
    """
    logits: Tensor = model(images)
    bad = ~torch.isfinite(logits).flatten(1).all(dim=1)
    if bad.any():
        raise TrainingError(
            "The model's logits are not finite, so its accuracy means nothing.",
            seen=f"{int(bad.sum())} of {len(bad)} rows with NaN or infinity on {what}",
            do="check the checkpoint: training diverged, or the weights do not belong to this network",
        )
    return logits


def clean_accuracy(model: nn.Module, images: Images, labels: Tensor, *, batch_size: int) -> float:
    """Return the share of images that a model classifies correctly.

    Args:
        model: From images in [0, 1] to logits.
        images: Shape (N, C, H, W).
        labels: True classes, int64 of shape (N,).
        batch_size: Images per batch.

    Raises:
        DataError: If there is nothing to evaluate or the lengths differ.
        TrainingError: If a logit is not finite.
    """
    return float(correct_mask(model, images, labels, batch_size=batch_size).float().mean())


def correct_mask(model: nn.Module, images: Images, labels: Tensor, *, batch_size: int) -> Tensor:
    """Return which images are classified correctly, bool of shape (N,) on the CPU.

    Args:
        model: From images in [0, 1] to logits.
        images: Shape (N, C, H, W).
        labels: Int64 of shape (N,).
        batch_size: Images per batch.
    """
    check_pairs(images, labels)
    device = device_of(model)
    with borrowed(model):
        return torch.cat(
            [
                (logits_of(model, x.to(device)).argmax(dim=1) == y.to(device)).cpu()
                for x, y in zip(images.split(batch_size), labels.split(batch_size), strict=True)
            ]
        )


def check_pairs(images: Images, labels: Tensor) -> None:
    """Check that there is one label for every image, and at least one image.

    Raises:
        DataError: If not.
    """
    if len(images) != len(labels) or not len(images):
        raise DataError(
            "An evaluation needs one label for every image, and at least one image.",
            seen=f"{len(images)} images, {len(labels)} labels",
            do="pass the images and labels of the same, non-empty selection",
        )
