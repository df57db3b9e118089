"""Accuracy under attack, measured so that neither the attack nor the model can blur it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from guard_plugins.errors import PluginError
from guard_plugins.evaluation.predictions import check_pairs, clean_accuracy, logits_of
from guard_plugins.evaluation.state import borrowed, device_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from guard_plugins.attacks.base import Attack, Norm
    from guard_plugins.seeds import Seeds

__all__ = ["AttackResult", "attack_accuracy", "attack_batch", "clean_accuracy"]

Progress = Callable[[int, int], None]
"""Called with the number of images done and the number of all images."""

TOLERANCE = 1e-6
"""How far float32 rounding may carry a pixel (or, in L2, a whole perturbation relative to eps) over its bound."""


@dataclass(frozen=True, eq=False)
class AttackResult:
    """Accuracy of one model under one attack at one radius.

    Attributes:
        attack: The attack's label, such as ``pgd-20``.
        norm: The norm ``eps`` is measured in.
        eps: Radius in pixel units.
        robust: Which images are classified correctly before *and* after the attack, bool of shape (N,), on the CPU.
        attacked: Number of images that were attacked: those classified correctly before.
    """

    attack: str
    norm: Norm
    eps: float
    robust: Tensor
    attacked: int

    @property
    def images(self) -> int:
        """Number of images counted, N."""
        return len(self.robust)

    @property
    def accuracy(self) -> float:
        """Share of the images that stay correctly classified."""
        return float(self.robust.float().mean())

    @property
    def clean(self) -> float:
        """Share of the images classified correctly before the attack."""
        return self.attacked / self.images


def attack_accuracy(
    model: nn.Module,
    attack: Attack,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    batch_size: int,
    seeds: Seeds,
    progress: Progress | None = None,
) -> AttackResult:
    """Attack ``model`` on every image it classifies correctly.

    The randomness of a batch depends on the seeds, the attack's label, eps and the batch's index only, so results do
    not depend on what was evaluated before. The model, its gradients and the global random streams are left as found.

    Args:
        model: From images in [0, 1] to logits; normalisation inside.
        attack: The attack.
        images: Images in [0, 1], shape (N, C, H, W), on any device; moved to the model's batch by batch.
        labels: True classes, int64 of shape (N,).
        eps: Radius in pixel units, in the attack's norm.
        batch_size: Images per batch.
        seeds: Source of all randomness.
        progress: Called after every batch.

    Raises:
        DataError: If there is nothing to evaluate or the lengths differ.
        PluginError: If the attack leaves the ball, or [0, 1].
        TrainingError: If a logit is not finite.
    """
    check_pairs(images, labels)
    device, robust, attacked = device_of(model), [], 0
    with borrowed(model):
        for index, (x, y) in enumerate(zip(images.split(batch_size), labels.split(batch_size), strict=True)):
            generator = seeds.generator(attack.label, repr(float(eps)), index, device=device)
            correct, stays = attack_batch(model, attack, x.to(device), y.to(device), eps=eps, generator=generator)
            robust.append(stays.cpu())
            attacked += int(correct.sum())
            if progress is not None:
                progress(sum(map(len, robust)), len(images))
    return AttackResult(attack.label, attack.norm, float(eps), torch.cat(robust), attacked)


def attack_batch(
    model: nn.Module, attack: Attack, images: Tensor, labels: Tensor, *, eps: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Attack what is classified correctly of one batch, on a model that is already :func:`borrowed`.

    Returns:
        Which images are classified correctly, and which of them still are after the attack; bool of shape (B,).
    """
    correct = logits_of(model, images).argmax(dim=1) == labels
    stays = correct.clone()
    if eps and correct.any():
        x, y = images[correct], labels[correct]
        adversarial = checked(attack, x, attack.perturb(model, x, y, eps=eps, generator=generator), eps=eps)
        stays[correct] = logits_of(model, adversarial, what=f"images by {attack.label}").argmax(dim=1) == y
    return correct, stays


def checked(attack: Attack, images: Tensor, adversarial: Tensor, *, eps: float) -> Tensor:
    """Return ``adversarial``, detached, after checking that it is a valid answer to ``images``.

    Raises:
        PluginError: If the shape differs, a pixel is not in [0, 1] or the perturbation is longer than ``eps``.
    """
    adversarial = adversarial.detach()
    if adversarial.shape != images.shape:
        raise _foul(attack, f"shape {tuple(adversarial.shape)} for images of shape {tuple(images.shape)}")
    low, high = float(adversarial.min()), float(adversarial.max())
    if not (low >= -TOLERANCE and high <= 1 + TOLERANCE):
        raise _foul(attack, f"pixels from {low:.6g} to {high:.6g}, not within [0, 1]")
    order = torch.inf if attack.norm == "Linf" else 2
    length = float(torch.linalg.vector_norm((adversarial - images).flatten(1), ord=order, dim=1).max())
    if not length <= eps * (1 + TOLERANCE) + TOLERANCE:
        raise _foul(attack, f"a perturbation of {attack.norm} length {length:.6g} at eps = {eps:.6g}")
    return adversarial


def _foul(attack: Attack, seen: str) -> PluginError:
    return PluginError(
        f"The attack {attack.label} returned images that break its own threat model.",
        seen=f"{seen}; {attack!r}",
        do="report it to the attack's author: results from such images would not count",
    )
