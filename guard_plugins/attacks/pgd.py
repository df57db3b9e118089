"""Projected gradient descent in the L-infinity ball (Madry et al. 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from guard_plugins.attacks.ascent import ascend, falling_steps, input_gradient, random_start, still_correct
from guard_plugins.attacks.base import Attack, Norm
from guard_plugins.attacks.losses import LOSSES, LossName, margin
from guard_plugins.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from guard_plugins.attacks.ascent import Gradient


@dataclass(frozen=True, kw_only=True)
class PGD(Attack):
    """Signed gradient ascent on the cross-entropy, projected to the ball after every step.

    Attributes:
        steps: Gradient steps per restart.
        restarts: Independent starts, each on the images that the earlier ones did not break.
        random_start: Whether to start from a uniform point of the ball instead of the image.
        step_size: Constant step in pixel units, as published, or None for steps that fall from 2 · eps to almost 0, of
            which far fewer are needed.
        near: Restart on an image only if the first start left less than this share of its margin, the true logit's
            lead over the best other. 1 restarts on every image that is left.
    """

    name: ClassVar[str] = "pgd"
    norm: ClassVar[Norm] = "Linf"
    summary: ClassVar[str] = "projected gradient descent on the cross-entropy (Madry et al. 2018)"
    display: ClassVar[str] = "PGD"
    loss: ClassVar[LossName] = "ce"

    steps: int = 20
    restarts: int = 1
    random_start: bool = True
    step_size: float | None = None
    near: float = 1.0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.restarts < 1 or not self.near > 0:
            raise ConfigError(
                f"{self.name} needs at least one step and one restart, and a positive share of the margin.",
                seen=f"steps={self.steps}, restarts={self.restarts}, near={self.near}",
                do="give positive numbers",
            )

    @property
    def label(self) -> str:
        """Name, steps and restarts: ``pgd-20`` or ``pgd-20x5``."""
        return f"{self.name}-{self.steps}" + (f"x{self.restarts}" if self.restarts > 1 else "")

    @property
    def strength(self) -> float | None:
        """The number of steps; None with restarts, or with another loss than the cross-entropy."""
        return self.steps if self.loss == "ce" and self.restarts == 1 else None

    def perturb(
        self, model: nn.Module, images: Tensor, labels: Tensor, *, eps: float, generator: torch.Generator
    ) -> Tensor:
        """Return the first misclassified iterate of every sample, or the last one if there was none."""
        adversarial, left = images.clone(), torch.arange(len(images), device=images.device)
        for restart in range(self.restarts):
            start = self._start(images, eps, generator)
            adversarial[left] = self._climb(model, images[left], labels[left], start=start[left], eps=eps)
            if restart + 1 < self.restarts:
                left = left[still_correct(model, adversarial[left], labels[left])]
                if self.near < 1:
                    left = left[_share_left(model, images[left], adversarial[left], labels[left]) < self.near]
                    self._climb_together(model, images, labels, adversarial, left, eps=eps, generator=generator)
                    break
            if not len(left):
                break
        return adversarial

    def _start(self, images: Tensor, eps: float, generator: torch.Generator) -> Tensor:
        # Drawn for the whole batch, so that the start of a sample does not depend on the others.
        return random_start(images, eps=eps, generator=generator) if self.random_start else images

    def _climb_together(
        self, model: nn.Module, images: Tensor, labels: Tensor, adversarial: Tensor, left: Tensor, *, eps: float,
        generator: torch.Generator,
    ) -> None:  # fmt: skip
        """Do all further restarts on the images ``left`` at once, since small batches take no less time a step."""
        again = self.restarts - 1
        starts = torch.cat([self._start(images, eps, generator)[left] for _ in range(again)])
        found, size = [], len(images)  # in parts of a batch, which is what memory is there for
        index = left.repeat(again)
        for part, start in zip(index.split(size), starts.split(size), strict=True):
            found.append(self._climb(model, images[part], labels[part], start=start, eps=eps))
        if not len(left):
            return
        ends = torch.cat(found)
        broken = torch.cat(
            [
                ~still_correct(model, x, labels[part])
                for x, part in zip(ends.split(size), index.split(size), strict=True)
            ]
        )
        broken = broken.view(again, len(left))
        kept = torch.where(broken.any(dim=0), broken.int().argmax(dim=0), again - 1)  # the first broken, or the last
        adversarial[left] = ends.view(again, len(left), *images.shape[1:])[
            kept, torch.arange(len(left), device=left.device)
        ]

    def _climb(self, model: nn.Module, images: Tensor, labels: Tensor, *, start: Tensor, eps: float) -> Tensor:
        sizes = falling_steps(eps, self.steps) if self.step_size is None else [self.step_size] * self.steps
        return ascend(self.gradient(model), images, labels, start=start, eps=eps, step_sizes=sizes)

    def gradient(self, model: nn.Module) -> Gradient:
        """Return the gradient the ascent follows on ``model``."""
        return input_gradient(model, LOSSES[self.loss])


@torch.no_grad()
def _share_left(model: nn.Module, images: Tensor, adversarial: Tensor, labels: Tensor) -> Tensor:
    """Return the share of every image's margin that an attack left, shape (B,)."""
    before, after = (-margin(model(x), labels) for x in (images, adversarial))
    return after / before.clamp_min(torch.finfo(before.dtype).tiny)
