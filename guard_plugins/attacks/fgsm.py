"""The fast gradient sign method (Goodfellow et al. 2015)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from guard_plugins.attacks.ascent import ascend, input_gradient
from guard_plugins.attacks.base import Attack, Norm
from guard_plugins.attacks.losses import cross_entropy

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class FGSM(Attack):
    """One step of length eps along the sign of the cross-entropy's gradient; deterministic."""

    name: ClassVar[str] = "fgsm"
    norm: ClassVar[Norm] = "Linf"
    summary: ClassVar[str] = "one signed gradient step of length eps (Goodfellow et al. 2015)"
    display: ClassVar[str] = "FGSM"

    @property
    def strength(self) -> float:
        """One step: the lowest rank."""
        return 1

    def perturb(
        self, model: nn.Module, images: Tensor, labels: Tensor, *, eps: float, generator: torch.Generator
    ) -> Tensor:
        """Return the images after one step of length ``eps``, clipped to [0, 1]."""
        gradient = input_gradient(model, cross_entropy)
        return ascend(gradient, images, labels, start=images, eps=eps, step_sizes=[eps])
