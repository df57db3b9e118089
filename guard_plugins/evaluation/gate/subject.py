"""What the gate examines: a model, a fixed set of images, and the results of the attacks run on them so far."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor, nn

from guard_plugins.attacks.official import classes_of
from guard_plugins.attacks.pgd import PGD
from guard_plugins.evaluation.accuracy import attack_accuracy
from guard_plugins.runtime.eval_mode import borrowed, device_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from guard_plugins.attacks.base import Attack
    from guard_plugins.evaluation.images import Images
    from guard_plugins.runtime.seeds import Seeds


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model under examination.

    Attributes:
        model: From images in [0, 1] to logits.
        images: The images the probes run on, shape (N, C, H, W).
        labels: True classes, shape (N,).
        eps: The L-infinity radius of the probes in pixel units. Best is one at which about half of the correctly
            classified images are broken.
        seeds: Source of all randomness.
        batch_size: Images per batch.
        attack: The PGD the evaluation relies on.
        source: An undefended network to transfer attacks from, or None.
        teacher: The network whose labels the model learned from, or None.
        spare: So many images never decide a check.
        confirm: Makes the same subject with more images, on which a failed check is repeated; None without more.
    """

    model: nn.Module
    images: Images
    labels: Tensor
    eps: float
    seeds: Seeds
    batch_size: int = 256
    attack: PGD = field(default_factory=PGD)
    source: nn.Module | None = None
    teacher: nn.Module | None = None
    spare: int = 1
    confirm: Callable[[], Subject] | None = None
    _known: dict[tuple[str, float], Tensor] = field(default_factory=dict, repr=False)

    def robust(self, attack: Attack, *, eps: float | None = None) -> Tensor:
        """Return which images stay correctly classified, bool of shape (N,); no attack is run twice.

        Args:
            attack: The attack.
            eps: Radius in pixel units; the subject's own if None.
        """
        key = (repr(attack), self.eps if eps is None else eps)
        if key not in self._known:
            self._known[key] = attack_accuracy(
                self.model, attack, self.images, self.labels, eps=key[1], batch_size=self.batch_size, seeds=self.seeds
            ).robust
        return self._known[key]

    def left_by(self, attack: Attack, among: Tensor, *, model: nn.Module | None = None) -> Tensor:
        """Return which images of ``among`` an attack leaves correctly classified; no other image is attacked.

        Args:
            attack: The attack.
            among: Bool of shape (N,).
            model: A variant to attack; the subject's own if None.
        """
        left = among.clone()
        if among.any():
            attacked = self.model if model is None else model
            left[among] = attack_accuracy(
                attacked, attack, self.images[among], self.labels[among], eps=self.eps, batch_size=self.batch_size,
                seeds=self.seeds,
            ).robust  # fmt: skip
        return left

    def classes(self) -> int:
        """Return the number of logits the model returns per image."""
        with borrowed(self.model):
            return classes_of(self.model, self.images[:1].to(device_of(self.model)))

    def slack(self, share: float) -> float:
        """Return ``share``, or half an image more than ``spare`` if that is more."""
        return max(share, (self.spare + 0.5) / len(self.labels))


def clearly_more(before: Tensor, after: Tensor, limit: float) -> bool:
    """Return whether an attack breaks more than another by over ``limit``, with 95 % confidence (normal, one-sided).

    For checks whose limit honest models come close to: on a few dozen images, a share is uncertain by several points.
    The attacks are compared image by image, so only images on which they differ add to the uncertainty.

    Args:
        before: Which images the one attack leaves correctly classified, bool of shape (N,).
        after: Which images the other one leaves.
        limit: The share of the images by which it may break more.
    """
    gain = before.double() - after.double()
    return float(gain.mean()) - 1.645 * float(gain.std(correction=0)) / math.sqrt(len(gain)) > limit


def share(mask: Tensor) -> float:
    """Return the share of True in ``mask``."""
    return float(mask.float().mean())
