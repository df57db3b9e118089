"""The fast adaptive boundary attack towards target classes, from the official code (Croce & Hein 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pyautoattack.fab_pt import FABAttack_PT

from guard_plugins.attacks.base import Attack, Norm
from guard_plugins.attacks.official import Predict, classes_of, run_official, seed_from, targets_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class FABT(Attack):
    """Searches the nearest misclassified image with steps to the linearised decision boundary.

    Attributes:
        steps: Boundary steps per target class.
    """

    name: ClassVar[str] = "fab-t"
    norm: ClassVar[Norm] = "Linf"
    summary: ClassVar[str] = "targeted fast adaptive boundary attack, third part of AutoAttack"
    display: ClassVar[str] = "FAB-T"

    steps: int = 100

    def perturb(
        self, model: nn.Module, images: Tensor, labels: Tensor, *, eps: float, generator: torch.Generator
    ) -> Tensor:
        """Return a misclassified image within ``eps`` of every image, or the image itself if none was found."""
        attack = FABAttack_PT(
            Predict(model, images.dtype),
            n_iter=self.steps,
            eps=eps,
            seed=seed_from(generator),
            targeted=True,
            n_target_classes=targets_of(classes_of(model, images)),
            device=images.device,
        )
        return run_official(attack, images, labels)
