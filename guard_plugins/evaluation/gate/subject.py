"""What the gate examines: a model, a fixed selection of images, and the attacks run on them so far."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor, nn

from guard_plugins.attacks.official import classes_of
from guard_plugins.evaluation.accuracy import attack_accuracy
from guard_plugins.evaluation.predictions import correct_mask
from guard_plugins.runtime.eval_mode import borrowed, device_of

if TYPE_CHECKING:
    from guard_plugins.attacks.base import Attack
    from guard_plugins.runtime.seeds import Seeds


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model under examination.

    Attributes:
        model: From images in [0, 1] to logits.
        images: The images the probes run on, shape (N, C, H, W).
        labels: True classes, shape (N,).
        eps: The L-infinity radius the probes run at, in pixel units; one at which the model is neither at its clean
            accuracy nor at zero says most.
        seeds: Source of all randomness.
        batch_size: Images per batch.
        steps: Steps of the PGD the evaluation relies on.
        source: An undefended network to transfer attacks from, or None.
        teacher: The network whose labels the model learned from, or None.
    """

    model: nn.Module
    images: Tensor
    labels: Tensor
    eps: float
    seeds: Seeds
    batch_size: int = 256
    steps: int = 20
    source: nn.Module | None = None
    teacher: nn.Module | None = None
    _known: dict[tuple[str, float], Tensor] = field(default_factory=dict, repr=False)

    def robust(self, attack: Attack, *, eps: float | None = None) -> Tensor:
        """Return which images stay correctly classified, bool of shape (N,); every attack is run once."""
        key = (repr(attack), self.eps if eps is None else eps)
        if key not in self._known:
            self._known[key] = self.robust_of(self.model, attack, eps=key[1])
        return self._known[key]

    def robust_of(self, model: nn.Module, attack: Attack, *, eps: float | None = None) -> Tensor:
        """Return the same for a variant of the model."""
        radius = self.eps if eps is None else eps
        return attack_accuracy(
            model, attack, self.images, self.labels, eps=radius, batch_size=self.batch_size, seeds=self.seeds
        ).robust

    def correct(self) -> Tensor:
        """Return which images are classified correctly, bool of shape (N,)."""
        return correct_mask(self.model, self.images, self.labels, batch_size=self.batch_size)

    def classes(self) -> int:
        """Return the number of classes the model tells apart."""
        with borrowed(self.model):
            return classes_of(self.model, self.images[:1].to(device_of(self.model)))

    def slack(self, share: float) -> float:
        """Return ``share``, or one image and a half where that is more: no check turns on a single image."""
        return max(share, 1.5 / len(self.labels))

    def clearly_above(self, rate: float, limit: float) -> bool:
        """Say whether a share of the images lies above ``limit`` with 95 % confidence (normal, one-sided).

        For items whose limit honest models come near to: on a few dozen images a share is uncertain by several points.
        """
        return rate - 1.645 * math.sqrt(rate * (1 - rate) / len(self.labels)) > limit


def share(mask: Tensor) -> float:
    """Return the share of True in ``mask``."""
    return float(mask.float().mean())
