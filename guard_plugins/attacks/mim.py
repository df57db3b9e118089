"""The momentum iterative method (Dong et al. 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from guard_plugins.attacks.ascent import ascend, input_gradient
from guard_plugins.attacks.base import Attack, Norm
from guard_plugins.attacks.losses import cross_entropy
from guard_plugins.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class MIM(Attack):
    """Signed ascent along the momentum of gradients, each divided by the L1 norm of its sample; deterministic.

    Attributes:
        steps: Gradient steps.
        decay: Factor on the momentum at every step (mu in the paper).
        step_size: Step in pixel units, or None for 2.5 · eps / steps (Madry et al. 2018); eps / steps in the paper.
    """

    name: ClassVar[str] = "mim"
    norm: ClassVar[Norm] = "Linf"
    summary: ClassVar[str] = "momentum iterative method, L1-normalised per sample (Dong et al. 2018)"
    display: ClassVar[str] = "MIM"

    steps: int = 20
    decay: float = 1.0
    step_size: float | None = None

    def __post_init__(self) -> None:
        if self.steps < 1 or self.decay < 0:
            raise ConfigError(
                "mim needs at least one step and a decay that is not negative.",
                seen=f"steps={self.steps}, decay={self.decay}",
                do="give steps >= 1 and decay >= 0",
            )

    @property
    def label(self) -> str:
        """Name and steps: ``mim-20``."""
        return f"{self.name}-{self.steps}"

    def perturb(
        self, model: nn.Module, images: Tensor, labels: Tensor, *, eps: float, generator: torch.Generator
    ) -> Tensor:
        """Return the first misclassified iterate of every sample, or the last one if there was none."""
        size = min(2.5 * eps / self.steps, eps) if self.step_size is None else self.step_size
        gradient = input_gradient(model, cross_entropy)
        return ascend(gradient, images, labels, start=images, eps=eps, step_sizes=[size] * self.steps, decay=self.decay)
