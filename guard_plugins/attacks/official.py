"""What the attacks share that run the official AutoAttack code (pyautoattack): no log, seeds, safe for any model."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, Protocol

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

# The library warns of zero gradients on every batch; the release gate measures them once.
QUIET: Final = logging.getLogger("guard_plugins.autoattack")
QUIET.addHandler(logging.NullHandler())
QUIET.propagate = False


class OfficialAttack(Protocol):
    """The interface of the library's attacks."""

    def perturb(self, x: Tensor, y: Tensor, /) -> Tensor:
        """Return misclassified images within the radius, and the unchanged image if the attack failed."""


class Predict:
    """A model as the library expects it: float32 in and out, and logits that it may overwrite.

    Square overwrites the logit of the true class in place, which would change a model that returns a view of its input
    or of a buffer.

    Args:
        model: From images (B, C, H, W) to logits (B, K).
        dtype: Type of the images that the model takes.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        self.model, self.dtype = model, dtype

    def __call__(self, images: Tensor) -> Tensor:
        """Return the logits of ``images``, shape (B, K)."""
        logits: Tensor = self.model(images.to(self.dtype))
        return logits.float().clone()


def classes_of(model: nn.Module, images: Tensor) -> int:
    """Return the number of logits the model returns per image."""
    with torch.no_grad():
        return int(model(images[:1]).shape[1])


def targets_of(classes: int) -> int:
    """Return how many target classes the targeted attacks try: nine as in the standard, or all if there are fewer."""
    return min(9, classes - 1)


def seed_from(generator: torch.Generator) -> int:
    """Return a seed for the library, which takes its randomness from the global streams."""
    return int(torch.randint(2**31 - 1, (1,), generator=generator, device=generator.device))


def run_official(attack: OfficialAttack, images: Tensor, labels: Tensor) -> Tensor:
    """Run an attack of the library and restore the global random streams, which it seeds.

    Args:
        attack: The attack.
        images: Images in [0, 1], shape (B, C, H, W).
        labels: True classes, shape (B,).
    """
    devices = [images.device] if images.is_cuda else []
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        return attack.perturb(images, labels).to(images.dtype)
