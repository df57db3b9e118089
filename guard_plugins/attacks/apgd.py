"""Auto-PGD, untargeted and targeted, from the official AutoAttack code (Croce & Hein 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted

from guard_plugins.attacks.base import Attack, Norm
from guard_plugins.attacks.official import QUIET, Predict, classes_of, run_official, seed_from, targets_of

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class APGDCE(Attack):
    """PGD on the cross-entropy with momentum and an adaptive step size.

    Attributes:
        steps: Gradient steps.
    """

    name: ClassVar[str] = "apgd-ce"
    norm: ClassVar[Norm] = "Linf"
    summary: ClassVar[str] = "Auto-PGD on the cross-entropy, first part of AutoAttack"
    display: ClassVar[str] = "APGD-CE"

    steps: int = 100

    def perturb(
        self, model: nn.Module, images: Tensor, labels: Tensor, *, eps: float, generator: torch.Generator
    ) -> Tensor:
        """Return a misclassified iterate of every image, or the image itself if there was none."""
        attack = APGDAttack(
            Predict(model, images.dtype),
            n_iter=self.steps,
            eps=eps,
            seed=seed_from(generator),
            device=images.device,
            logger=QUIET,
        )
        return run_official(attack, images, labels)


@dataclass(frozen=True, kw_only=True)
class APGDT(Attack):
    """Auto-PGD towards each of the most likely wrong classes, on the targeted difference of logits ratio.

    The ratio needs four logits. With fewer, the attack uses its numerator only, the targeted margin; the sign of the
    gradient, which is all that L-infinity steps use, is the same.

    Attributes:
        steps: Gradient steps per target.
    """

    name: ClassVar[str] = "apgd-t"
    norm: ClassVar[Norm] = "Linf"
    summary: ClassVar[str] = "targeted Auto-PGD on the difference of logits ratio, second part of AutoAttack"
    display: ClassVar[str] = "APGD-T"

    steps: int = 100

    def perturb(
        self, model: nn.Module, images: Tensor, labels: Tensor, *, eps: float, generator: torch.Generator
    ) -> Tensor:
        """Return a misclassified iterate of every image, or the image itself if there was none."""
        classes = classes_of(model, images)
        kind = APGDAttack_targeted if classes >= 4 else _MarginTargeted
        attack = kind(
            Predict(model, images.dtype),
            n_iter=self.steps,
            eps=eps,
            seed=seed_from(generator),
            n_target_classes=targets_of(classes),
            device=images.device,
            logger=QUIET,
        )
        return run_official(attack, images, labels)


class _MarginTargeted(APGDAttack_targeted):
    """The same attack for too few logits for the denominator of the ratio."""

    def dlr_loss_targeted(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the target's logit minus the true one, shape (B,)."""
        rows = torch.arange(len(x), device=x.device)
        difference: Tensor = x[rows, self.y_target] - x[rows, y]
        return difference
