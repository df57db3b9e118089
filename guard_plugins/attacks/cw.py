"""The L2 attack of Carlini & Wagner (2017), which looks for the nearest misclassified image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from guard_plugins.attacks.ascent import input_gradient, still_correct
from guard_plugins.attacks.base import Attack, Norm
from guard_plugins.attacks.losses import margin
from guard_plugins.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor, nn

_BETA1, _BETA2 = 0.9, 0.999


@dataclass(frozen=True, kw_only=True)
class CW(Attack):
    """Minimise ‖δ‖² + c · max(z_true − max z_other, 0) over images in [0, 1], with a binary search on c per sample.

    The paper's change of variables with tanh has no gradient at pixels of exactly 0 or 1, and in many data sets most
    pixels are. Here Adam changes the pixels themselves, and every step is clipped to [0, 1].

    Attributes:
        steps: Adam steps per value of c.
        searches: Values of c tried per sample.
        initial_c: The first of them.
        step_size: Adam's first learning rate in pixel units; it falls to zero along a cosine.
    """

    name: ClassVar[str] = "cw-l2"
    norm: ClassVar[Norm] = "L2"
    summary: ClassVar[str] = "minimal L2 distance with a binary search on c (Carlini & Wagner 2017)"
    display: ClassVar[str] = "CW-L2"

    steps: int = 100
    searches: int = 9
    initial_c: float = 0.1
    step_size: float = 0.01

    def __post_init__(self) -> None:
        if self.steps < 1 or self.searches < 1 or self.initial_c <= 0:
            raise ConfigError(
                "cw-l2 needs at least one step, one search and a positive c.",
                seen=f"steps={self.steps}, searches={self.searches}, initial_c={self.initial_c}",
                do="give positive numbers",
            )

    @property
    def label(self) -> str:
        """Name, searches and steps: ``cw-l2-9x100``."""
        return f"{self.name}-{self.searches}x{self.steps}"

    def perturb(
        self, model: nn.Module, images: Tensor, labels: Tensor, *, eps: float, generator: torch.Generator
    ) -> Tensor:
        """Return a misclassified image within ``eps`` of every image, or the image itself if none was found."""
        best, distance = self.search(model, images, labels, enough=eps)
        return torch.where((distance <= eps).view(-1, 1, 1, 1), best, images)

    def search(self, model: nn.Module, images: Tensor, labels: Tensor, *, enough: float) -> tuple[Tensor, Tensor]:
        """Return the nearest misclassified images found and their L2 distances, shape (B,); inf if none was found.

        Args:
            model: From images to logits.
            images: Clean images in [0, 1], shape (B, C, H, W). One that is misclassified already has distance 0.
            labels: True classes, shape (B,).
            enough: The search for a sample ends when a misclassified image within this distance is found; 0 for the
                nearest image that the settings can find.
        """
        best = images.clone()
        distance = torch.where(still_correct(model, images, labels), torch.inf, 0.0).to(images)
        c = torch.full_like(distance, self.initial_c)
        low, high = torch.zeros_like(c), torch.full_like(c, torch.inf)
        for _ in range(self.searches):
            left = (distance > enough).nonzero().squeeze(1)
            if not len(left):
                break
            found, length = minimise(
                model, images[left], labels[left], c=c[left], steps=self.steps, step_size=self.step_size, enough=enough
            )
            nearer = left[length < distance[left]]
            best[nearer], distance[nearer] = found[length < distance[left]], length[length < distance[left]]
            success = torch.isfinite(length)
            high[left] = torch.where(success, c[left].minimum(high[left]), high[left])
            low[left] = torch.where(success, low[left], c[left].maximum(low[left]))
            c = torch.where(torch.isinf(high), 10 * c, (low + high) / 2)
        return best, distance


def minimise(
    model: nn.Module, images: Tensor, labels: Tensor, *, c: Tensor, steps: int, step_size: float, enough: float
) -> tuple[Tensor, Tensor]:
    """Minimise ‖δ‖² + c · max(−margin, 0) for every sample (Carlini & Wagner 2017, section V), within [0, 1].

    Args:
        model: From images to logits.
        images: Clean images, shape (B, C, H, W).
        labels: True classes, shape (B,).
        c: Weight of the penalty, shape (B,).
        steps: Adam steps.
        step_size: First learning rate in pixel units; it falls to zero along a cosine.
        enough: A sample is finished when a misclassified iterate lies within this L2 distance.

    Returns:
        The nearest misclassified iterate of every sample and its L2 distance; the image and inf if there was none.
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
