"""Random noise, an attack without any knowledge of the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from guard_plugins.attacks.ascent import still_correct
from guard_plugins.attacks.base import Attack, Norm

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class RandomNoise(Attack):
    """The first misclassified one of many random corners of the ball, which are the longest perturbations.

    Attributes:
        draws: Random perturbations tried per image.
    """

    name: ClassVar[str] = "noise"
    norm: ClassVar[Norm] = "Linf"
    summary: ClassVar[str] = "random perturbations of the largest size, no gradients"
    display: ClassVar[str] = "Noise"
    black_box: ClassVar[bool] = True

    draws: int = 100

    @property
    def label(self) -> str:
        """Name and draws: ``noise-100``."""
        return f"{self.name}-{self.draws}"

    def perturb(
        self, model: nn.Module, images: Tensor, labels: Tensor, *, eps: float, generator: torch.Generator
    ) -> Tensor:
        """Return a misclassified perturbation of every image, or its last perturbation if there was none."""
        adversarial, left = images.clone(), torch.arange(len(images), device=images.device)
        for _ in range(self.draws):
            signs = torch.randint(0, 2, images.shape, generator=generator, device=images.device)
            noisy = (images + eps * (2 * signs - 1).to(images)).clamp(0.0, 1.0)
            adversarial[left] = noisy[left]
            left = left[still_correct(model, noisy[left], labels[left])]
            if not len(left):
                break
        return adversarial
