"""Accuracy under attack, measured so that neither the attack nor the model can blur it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from guard_plugins.errors import PluginError
from guard_plugins.evaluation.predictions import check_pairs, clean_accuracy, correct_mask, logits_of
from guard_plugins.evaluation.state import borrowed, device_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from guard_plugins.attacks.base import Attack, Norm
    from guard_plugins.seeds import Seeds

__all__ = ["AttackResult", "attack_accuracy", "attack_left", "clean_accuracy"]

Progress = Callable[[int, int], None]
"""Called with the number of images done and the number of images to do."""

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
        parts: Label of each part of the attack and the accuracy after it, in the order they ran.
    """

    attack: str
    norm: Norm
    eps: float
    robust: Tensor
    attacked: int
    parts: tuple[tuple[str, float], ...]

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

    Each part of the attack runs over all images that the parts before it left, in full batches. The randomness of a
    batch depends on the seeds, the attack's label, eps, the part and the batch's index only, so results do not depend
    on what was evaluated before. The model, its gradients and the global random streams are left as found.

    Args:
        model: From images in [0, 1] to logits; normalisation inside.
        attack: The attack.
        images: Images in [0, 1], shape (N, C, H, W), on any device; moved to the model's batch by batch.
        labels: True classes, int64 of shape (N,).
        eps: Radius in pixel units, in the attack's norm.
        batch_size: Images per batch.
        seeds: Source of all randomness.
        progress: Called after every batch; each part of an attack counts for its share of the images.

    Raises:
        DataError: If there is nothing to evaluate or the lengths differ.
        PluginError: If the attack leaves the ball, or [0, 1].
        TrainingError: If a logit is not finite.
    """
    check_pairs(images, labels)
    robust = correct_mask(model, images, labels, batch_size=batch_size)
    attacked, parts, trail = int(robust.sum()), attack.parts(), []
    with borrowed(model):
        for number, part in enumerate(parts):
            rng = seeds.child(attack.label, repr(float(eps)), part.label)
            tell = _in_parts(progress, number, len(parts))
            if eps:  # a ball of radius 0 holds the image alone
                attack_left(
                    model, part, images, labels, robust, eps=eps, batch_size=batch_size, seeds=rng, progress=tell
                )
            trail.append((part.label, float(robust.float().mean())))
    if progress is not None:
        progress(len(robust), len(robust))
    return AttackResult(attack.label, attack.norm, float(eps), robust, attacked, tuple(trail))


def attack_left(
    model: nn.Module,
    attack: Attack,
    images: Tensor,
    labels: Tensor,
    robust: Tensor,
    *,
    eps: float,
    batch_size: int,
    seeds: Seeds,
    progress: Progress | None = None,
) -> None:
    """Attack the images that ``robust`` (bool, shape (N,), on the CPU) marks, and unmark those that break.

    The model must be :func:`~guard_plugins.evaluation.state.borrowed`. A batch's stream is its index in ``seeds``.
    """
    device, left = device_of(model), robust.nonzero().squeeze(1)
    done = len(robust) - len(left)
    if progress is not None:
        progress(done, len(robust))
    for number, index in enumerate(left.split(batch_size) if len(left) else ()):  # an empty tensor splits into itself
        x, y = images[index.to(images.device)].to(device), labels[index.to(labels.device)].to(device)
        adversarial = attack.perturb(model, x, y, eps=eps, generator=seeds.generator(number, device=device))
        logits = logits_of(model, checked(attack, x, adversarial, eps=eps), what=f"images by {attack.label}")
        robust[index] = (logits.argmax(dim=1) == y).cpu()
        done += len(index)
        if progress is not None:
            progress(done, len(robust))


def _in_parts(progress: Progress | None, number: int, parts: int) -> Progress | None:
    if progress is None:
        return None
    return lambda done, total: progress((number * total + done) // parts, total)


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
