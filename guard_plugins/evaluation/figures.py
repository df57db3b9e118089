"""Computes the data of a report's pictures: adversarial examples and slices through the loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from guard_plugins.artifacts.figures import About, Array, Figures
from guard_plugins.attacks.pgd import PGD
from guard_plugins.evaluation.attached import attached
from guard_plugins.runtime.eval_mode import borrowed

if TYPE_CHECKING:
    from guard_plugins.evaluation.curvature import Curvature
    from guard_plugins.runtime.seeds import Seeds
    from guard_plugins.runtime.task import Task

EXAMPLES: Final = 6
SLICES: Final = 3
GRID: Final = 21
"""Points of a slice in each direction; odd, so that the image itself is one of them."""
ATTACKED: Final = "student"
"""The kind of model whose adversarial examples are shown."""
DEFAULT_RADII: Final = (1 / 255, 4 / 255, 16 / 255)
"""Radii of the examples if the protocol has none in L-infinity."""


def collect(
    task: Task,
    models: Mapping[str, nn.Module],
    curvatures: Mapping[str, Curvature],
    *,
    radii: Sequence[float],
    h: float,
) -> Figures:
    """Return the data of a run's pictures.

    Args:
        task: Gives test images and seeds.
        models: One model (pixels in, logits out) of each kind to show.
        curvatures: Slope and curvature of the loss around test images, by kind.
        radii: L-infinity radii of the adversarial examples, in pixel units.
        h: L2 length of the curvature step in pixel units.
    """
    images, labels = _one_of_each(task)
    attack = PGD(steps=20)
    about = About(task.data.classes, tuple(radii) or DEFAULT_RADII, attack.label, h)
    arrays = {"clean": _halves(images), "labels": labels.numpy()}
    x, y, seeds = images.to(task.device), labels.to(task.device), task.seeds.child("figures")
    for kind, given in models.items():
        model = attached(given, images)
        with borrowed(model):
            slices = [
                loss_slice(model, x[n], y[n], reach=2 * h, direction=seeds.generator("slice", n))
                for n in range(min(SLICES, len(x)))
            ]
            found = {"slices": np.stack(slices)}
            if kind == ATTACKED:
                found |= _attacked(attack, model, x, y, radii=about.radii, seeds=seeds)
        arrays |= {f"{kind}/{name}": array for name, array in found.items()}
    for kind, measured in curvatures.items():
        arrays[f"{kind}/norm"] = measured.gradient_norm.float().numpy()
        arrays[f"{kind}/curvature"] = measured.along_gradient.float().numpy()
    return Figures(about, arrays)


def _attacked(
    attack: PGD, model: nn.Module, images: Tensor, labels: Tensor, *, radii: Sequence[float], seeds: Seeds
) -> dict[str, Array]:
    """Return adversarial examples, one set for each radius, and what the model takes the images for."""
    draws = [seeds.generator(ATTACKED, repr(eps), device=images.device) for eps in radii]
    found = [
        attack.perturb(model, images, labels, eps=eps, generator=draw) for eps, draw in zip(radii, draws, strict=True)
    ]
    return {
        "adversarial": _halves(torch.stack(found)),
        "before": _classes(model, images),
        "after": np.stack([_classes(model, adversarial) for adversarial in found]),
    }


def loss_slice(model: nn.Module, image: Tensor, label: Tensor, *, reach: float, direction: torch.Generator) -> Array:
    """Return the loss on a plane through an image: rows along its gradient, columns along a random direction.

    Both directions have unit L2 length and are orthogonal. Points are not clipped to [0, 1], since the plane would no
    longer be flat.

    Args:
        model: From images in [0, 1] to logits, in eval mode.
        image: The image, shape (C, H, W).
        label: Its class, a scalar.
        reach: L2 distance of the plane's edges from the image, in pixel units.
        direction: Draws the random direction, on the CPU.

    Returns:
        float32 of shape (GRID, GRID); the image is at the centre and the gradient points to the last row.
    """
    leaf = image.detach().clone().requires_grad_()
    with torch.enable_grad():
        (grad,) = torch.autograd.grad(F.cross_entropy(model(leaf[None]), label[None]), leaf)
    along = grad / grad.norm().clamp_min(1e-12)
    across = torch.randn(image.shape, generator=direction).to(image.device)
    across = across - (across * along).sum() * along
    across = across / across.norm()
    at = torch.linspace(-reach, reach, GRID, device=image.device)
    points = image + at.view(-1, 1, 1, 1, 1) * along + at.view(1, -1, 1, 1, 1) * across
    with torch.no_grad():
        logits = torch.cat([model(part) for part in points.flatten(0, 1).split(147)])
    losses = F.cross_entropy(logits, label.expand(len(logits)), reduction="none")
    return np.asarray(losses.view(GRID, GRID).float().cpu().numpy())


def _one_of_each(task: Task) -> tuple[Tensor, Tensor]:
    """Return the first test image of each of the first classes, the same in every run on a data set."""
    labels = task.data.test.labels
    index = torch.stack([torch.nonzero(labels == label)[0, 0] for label in labels.unique()[:EXAMPLES]])
    return task.data.test.images(index), labels[index]


def _halves(images: Tensor) -> Array:
    return images.detach().cpu().half().numpy()


def _classes(model: nn.Module, images: Tensor) -> Array:
    with torch.no_grad():
        return np.asarray(model(images).argmax(dim=1).cpu().numpy())
