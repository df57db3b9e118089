"""Finds out whether a network that is right on almost nothing only has its outputs in another order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

from guard_plugins.evaluation.predictions import logits_of
from guard_plugins.runtime.eval_mode import borrowed, device_of

if TYPE_CHECKING:
    from torch import nn

    from guard_plugins.data.base import Data

IMAGES: Final = 1000
"""Test images that are looked at, at most."""
BATCH: Final = 100
"""Images at a time."""
LISTED: Final = 20
"""Classes whose order is written out, at most."""


def order_hint(model: nn.Module, data: Data) -> list[str]:
    """Return a warning where clean accuracy is below chance, with what the best order of the outputs would give.

    Args:
        model: Pixels in, logits out.
        data: Gives the test images and the names of the classes.

    Raises:
        TrainingError: If a logit is not finite.
    """
    index = torch.linspace(0, len(data.test) - 1, min(IMAGES, len(data.test))).round().long()
    labels, classes = data.test.labels[index], len(data.classes)
    device = device_of(model)
    with borrowed(model):
        batches = [logits_of(model, data.test.images(part).to(device)).argmax(1).cpu() for part in index.split(BATCH)]
    counts = torch.zeros(classes, classes)
    counts.index_put_((torch.cat(batches), labels), torch.ones(len(labels)), accumulate=True)
    clean = float(counts.trace()) / len(labels)
    if clean >= 1 / classes:
        return []
    from scipy.optimize import linear_sum_assignment  # half a second, for the few that need it

    outputs, meant = linear_sum_assignment(counts.numpy(), maximize=True)
    best = float(counts[outputs, meant].sum()) / len(labels)
    said = f"warning: clean accuracy is {100 * clean:.1f} % on {len(labels)} test images, below chance"
    if best < 0.5 * (1 + 1 / classes) and best < 3 / classes:
        return [f"{said}, and {100 * best:.1f} % in the best order of the outputs: look at weights and normalisation"]
    names = ", ".join(data.classes[label] for label in meant) if classes <= LISTED else ""
    found = f" That order, found on these images, is {names}; compare it with the training code." if names else ""
    return [
        f"{said}; with the outputs in another order it would be {100 * best:.1f} %. Give the order of the training "
        f"code with --classes FILE, a class name on each line.{found}"
    ]
