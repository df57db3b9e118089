"""Adam on ‖δ‖² plus a penalty on staying correctly classified, within the box [0, 1]."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from guard_plugins.attacks.ascent import input_gradient
from guard_plugins.attacks.losses import margin

if TYPE_CHECKING:
    from torch import Tensor, nn

_BETA1, _BETA2 = 0.9, 0.999


def minimise(
    model: nn.Module, images: Tensor, labels: Tensor, *, c: Tensor, steps: int, step_size: float, enough: float
) -> tuple[Tensor, Tensor]:
    """Minimise ‖δ‖² + c · max(−margin, 0) for every sample (Carlini & Wagner 2017, section V), within [0, 1].

    Args:
        model: From images to logits; only differences of logits matter, so their sign does not.
        images: Clean images, shape (B, C, H, W).
        labels: True classes, shape (B,).
        c: Weight of the penalty, shape (B,).
        steps: Adam steps.
        step_size: First learning rate in pixel units; it falls to zero along a cosine.
        enough: A sample is done as soon as a misclassified iterate lies within this L2 distance.

    Returns:
        The nearest misclassified iterate of every sample and its L2 distance; the image and inf where none was.
    """
    best, distance = images.clone(), torch.full_like(c, torch.inf)
    active = torch.arange(len(images), device=images.device)
    delta, first, second = (torch.zeros_like(images) for _ in range(3))
    gradient = input_gradient(model, margin)
    for step in range(steps + 1):
        x = images[active]
        logits, grad = gradient(x + delta, labels[active])
        fooled = logits.argmax(dim=1) != labels[active]
        length = delta.flatten(1).norm(dim=1)
        better = fooled & (length < distance[active])
        best[active[better]], distance[active[better]] = (x + delta)[better], length[better]
        keep = distance[active] > enough
        active, delta, first, second = active[keep], delta[keep], first[keep], second[keep]
        if not len(active) or step == steps:
            break
        pull = (c[active] * ~fooled[keep]).view(-1, 1, 1, 1)
        total = 2 * delta - pull * grad[keep]
        first = _BETA1 * first + (1 - _BETA1) * total
        second = _BETA2 * second + (1 - _BETA2) * total.square()
        rate = step_size * (1 + math.cos(math.pi * step / steps)) / 2
        move = first / (1 - _BETA1 ** (step + 1)) / ((second / (1 - _BETA2 ** (step + 1))).sqrt() + 1e-8)
        delta = (images[active] + delta - rate * move).clamp(0.0, 1.0) - images[active]
    return best, distance
