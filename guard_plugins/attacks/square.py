"""The Square attack, which needs no gradients, from the official code (Andriushchenko et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pyautoattack.square import SquareAttack

from guard_plugins.attacks.base import Attack, Norm
from guard_plugins.attacks.official import Predict, run_official, seed_from

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Square(Attack):
    """Random search over square patches on the margin loss.

    Attributes:
        queries: Largest number of forward passes per image.
    """

    name: ClassVar[str] = "square"
    norm: ClassVar[Norm] = "Linf"
    summary: ClassVar[str] = "black-box random search over square patches, last part of AutoAttack"
    display: ClassVar[str] = "Square"
    black_box: ClassVar[bool] = True

    queries: int = 5000

    @property
    def label(self) -> str:
        """Name and queries: ``square-5000``."""
        return f"{self.name}-{self.queries}"

    def perturb(
        self, model: nn.Module, images: Tensor, labels: Tensor, *, eps: float, generator: torch.Generator
    ) -> Tensor:
        """Return a misclassified candidate for every image, or the image itself if there was none."""
        attack = SquareAttack(
            Predict(model, images.dtype),
            n_queries=self.queries,
            eps=eps,
            seed=seed_from(generator),
            resc_schedule=False,  # as in the standard: the schedule of patch sizes is that for 10,000 queries
            device=images.device,
        )
        return run_official(attack, images, labels)
