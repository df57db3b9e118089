"""AutoAttack standard: APGD-CE, APGD-T, FAB-T and Square, each on the images that the earlier ones did not break."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from guard_plugins.attacks.apgd import APGDCE, APGDT
from guard_plugins.attacks.ascent import still_correct
from guard_plugins.attacks.base import Attack, Norm
from guard_plugins.attacks.fab import FABT
from guard_plugins.attacks.square import Square

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class AutoAttack(Attack):
    """The standard version (Croce & Hein 2020), each part by the official code."""

    name: ClassVar[str] = "autoattack"
    norm: ClassVar[Norm] = "Linf"
    summary: ClassVar[str] = "AutoAttack standard: APGD-CE, APGD-T, FAB-T, Square (Croce & Hein 2020)"
    display: ClassVar[str] = "AutoAttack"

    @property
    def strength(self) -> float:
        """The highest rank."""
        return math.inf

    def parts(self) -> Sequence[Attack]:
        """Return the four attacks of the standard with its settings."""
        return (APGDCE(steps=100), APGDT(steps=100), FABT(steps=100), Square(queries=5000))

    def perturb(
        self, model: nn.Module, images: Tensor, labels: Tensor, *, eps: float, generator: torch.Generator
    ) -> Tensor:
        """Return a misclassified image for every image, or the last attempt if there was none."""
        adversarial, left = images.clone(), torch.arange(len(images), device=images.device)
        for part in self.parts():
            left = left[still_correct(model, adversarial[left], labels[left])]
            if not len(left):
                break
            adversarial[left] = part.perturb(model, images[left], labels[left], eps=eps, generator=generator)
        return adversarial
