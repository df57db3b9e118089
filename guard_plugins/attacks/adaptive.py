"""Attackers who know more than the model: its teacher, a stand-in, or a smooth surrogate of its activations."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import torch

from guard_plugins.attacks.ascent import input_gradient
from guard_plugins.attacks.losses import LOSSES, LossName
from guard_plugins.attacks.pgd import PGD
from guard_plugins.attacks.smooth import SmoothReLU
from guard_plugins.runtime.eval_mode import borrowed

if TYPE_CHECKING:
    from torch import Tensor, nn

    from guard_plugins.attacks.ascent import Gradient


@dataclass(frozen=True, kw_only=True)
class Adaptive(PGD):
    """Margin PGD along the summed gradients of the model and its teacher, through a smooth surrogate of ReLU.

    Each gradient is divided by its sample's largest entry before the sum, so that neither model drowns the other.

    Attributes:
        teacher: The network whose labels or features the model was trained on, or None where it is not known.
        beta: Sharpness of the surrogate of ReLU, or 0 for the exact derivative.
    """

    name: ClassVar[str] = "adaptive"
    summary: ClassVar[str] = "margin PGD that also knows the teacher and smooths ReLU"
    display: ClassVar[str] = "Adaptive PGD"
    loss: ClassVar[LossName] = "margin"

    teacher: nn.Module | None = field(default=None, repr=False)
    beta: float = 10.0

    @property
    def label(self) -> str:
        """Name, steps and whether the teacher is known: ``adaptive-20+teacher``."""
        return super().label + ("+teacher" if self.teacher is not None else "")

    def perturb(
        self, model: nn.Module, images: Tensor, labels: Tensor, *, eps: float, generator: torch.Generator
    ) -> Tensor:
        """Return the first iterate of every sample that the model, not the teacher, misclassifies, or the last one."""
        with borrowed(*(() if self.teacher is None else (self.teacher,))):
            return super().perturb(model, images, labels, eps=eps, generator=generator)

    def gradient(self, model: nn.Module) -> Gradient:
        """Return the model's logits and the sum of the normalised gradients."""
        loss = LOSSES[self.loss]
        known = [input_gradient(network, loss) for network in (model, self.teacher) if network is not None]

        def gradient(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
            answers = [self._through_surrogate(one, images, labels) for one in known]
            total = torch.stack([grad / _largest(grad) for _, grad in answers]).sum(dim=0)
            return answers[0][0], total

        return gradient

    def _through_surrogate(self, gradient: Gradient, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        if not self.beta:
            return gradient(images, labels)
        with SmoothReLU(self.beta):
            return gradient(images, labels)


def _largest(grad: Tensor) -> Tensor:
    return grad.abs().flatten(1).amax(dim=1).clamp_min(torch.finfo(grad.dtype).tiny).view(-1, 1, 1, 1)
