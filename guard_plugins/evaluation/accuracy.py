"""Accuracy under attack: every result is checked, and no result depends on what was evaluated before."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from guard_plugins.errors import PluginError
from guard_plugins.evaluation.predictions import check_pairs, clean_accuracy, correct_mask, logits_of
from guard_plugins.networks.folded import folded
from guard_plugins.runtime.eval_mode import borrowed, device_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from guard_plugins.attacks.base import Attack, Norm
    from guard_plugins.evaluation.images import Images
    from guard_plugins.runtime.seeds import Seeds

__all__ = ["AttackResult", "Underway", "attack_accuracy", "clean_accuracy"]

Progress = Callable[[int, int], None]
"""Called with the number of images done and the number of images to do."""

TOLERANCE = 1e-6
"""By how much rounding in float32 may move a pixel (in L2, a perturbation relative to eps) over its bound."""


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
        strength: The attack's rank, see :attr:`guard_plugins.attacks.base.Attack.strength`.
        black_box: Whether the attack uses no gradients.
        white_box_parts: Number of parts before the first that uses no gradients.
    """

    attack: str
    norm: Norm
    eps: float
    robust: Tensor
    attacked: int
    parts: tuple[tuple[str, float], ...]
    strength: float | None = None
    black_box: bool = False
    white_box_parts: int = 0

    @property
    def images(self) -> int:
        """Number of images counted, N."""
        return len(self.robust)

    @property
    def accuracy(self) -> float:
        """Share of the images that stay correctly classified."""
        return float(self.robust.float().mean())


@dataclass
class Underway:
    """The state of an unfinished attack on a model, from which it can go on.

    Attributes:
        robust: Which images are correct and not broken yet, bool of shape (N,), on the CPU.
        attacked: Number of images classified correctly before the attack.
        standing: Which images the current part attacks, like ``robust``.
        batches: Number of batches of them that are finished.
        parts: Label of every finished part and the accuracy after it.
    """

    robust: Tensor
    attacked: int
    standing: Tensor
    batches: int = 0
    parts: list[tuple[str, float]] = field(default_factory=list)

    @classmethod
    def begin(cls, correct: Tensor) -> Underway:
        """Return the state before the first part, from the images classified correctly."""
        return cls(correct, int(correct.sum()), correct.clone())

    def finish(self, label: str) -> None:
        """Record that a part is finished; the next part attacks the images that are still correct."""
        self.parts.append((label, float(self.robust.float().mean())))
        self.standing, self.batches = self.robust.clone(), 0


def attack_accuracy(
    model: nn.Module,
    attack: Attack,
    images: Images,
    labels: Tensor,
    *,
    eps: float,
    batch_size: int,
    seeds: Seeds,
    progress: Progress | None = None,
    begun: Underway | None = None,
    save: Callable[[Underway], None] | None = None,
) -> AttackResult:
    """Attack ``model`` on every image it classifies correctly.

    Each part of the attack runs in full batches over the images that the earlier parts did not break. The randomness of
    a batch depends only on the seeds, the attack's label, eps, the part and the batch's index, so results do not depend
    on earlier evaluations. Attacks climb on a copy with BatchNorm folded away, where there is one; whether an image is
    broken is the model's own answer. The model, its gradients and the global random streams are left as they were.

    Args:
        model: From images in [0, 1] to logits; normalisation inside.
        attack: The attack.
        images: Images in [0, 1], shape (N, C, H, W), on any device; moved to the model's batch by batch.
        labels: True classes, int64 of shape (N,).
        eps: Radius in pixel units, in the attack's norm.
        batch_size: Images per batch.
        seeds: Source of all randomness.
        progress: Called after every batch; each part of the attack counts for an equal share of the images.
        begun: State of an earlier call with the same arguments, to go on from.
        save: Called with the state before every call of ``progress``.

    Raises:
        DataError: If there is nothing to evaluate or the lengths differ.
        PluginError: If the attack leaves the ball, or [0, 1].
        TrainingError: If a logit is not finite.
    """
    check_pairs(images, labels)
    state = begun or Underway.begin(correct_mask(model, images, labels, batch_size=batch_size))
    parts = attack.parts()
    with borrowed(model):
        for number in range(len(state.parts), len(parts)):
            rng = seeds.child(attack.label, repr(float(eps)), parts[number].label)
            report = _in_parts(progress, number, len(parts))
            if eps:  # a ball of radius 0 holds the image alone
                batches = _batches(parts[number], model, images, labels, state, eps=eps, size=batch_size, seeds=rng)
                for done in batches:
                    if save is not None:
                        save(state)
                    if report is not None:
                        report(done, len(state.robust))
            state.finish(parts[number].label)
    if save is not None:
        save(state)
    if progress is not None:
        progress(len(state.robust), len(state.robust))
    return AttackResult(
        attack.label, attack.norm, float(eps), state.robust, state.attacked, tuple(state.parts), attack.strength,
        attack.black_box, len(list(itertools.takewhile(lambda part: not part.black_box, parts))),
    )  # fmt: skip


def _batches(
    attack: Attack, model: nn.Module, images: Images, labels: Tensor, state: Underway, *, eps: float, size: int,
    seeds: Seeds,
) -> Iterator[int]:  # fmt: skip
    """Attack the standing images batch by batch; yield the number of finished images before the first and after each.

    The random stream of a batch is that of its index in ``seeds``.
    """
    quick = folded(model)
    device, left = device_of(model), state.standing.nonzero().squeeze(1)
    done = len(state.robust) - len(left) + min(state.batches * size, len(left))
    yield done
    rest = list(left.split(size))[state.batches :] if len(left) else []  # an empty tensor splits into itself
    for index in rest:
        x, y = images[index.to(images.device)].to(device), labels[index.to(labels.device)].to(device)
        generator = seeds.generator(state.batches, device=device)
        adversarial = attack.perturb(quick, x, y, eps=eps, generator=generator)
        logits = logits_of(model, checked(attack, x, adversarial, eps=eps), what=f"images by {attack.label}")
        state.robust[index] = (logits.argmax(dim=1) == y).cpu()
        state.batches += 1
        done += len(index)
        yield done


def _in_parts(progress: Progress | None, number: int, parts: int) -> Progress | None:
    if progress is None:
        return None
    return lambda done, total: progress((number * total + done) // parts, total)


def checked(attack: Attack, images: Tensor, adversarial: Tensor, *, eps: float) -> Tensor:
    """Return ``adversarial``, detached, after a check that the attack kept to its threat model.

    Args:
        attack: The attack.
        images: Clean images.
        adversarial: What the attack returned for them.
        eps: Radius in pixel units.

    Raises:
        PluginError: If the shape differs, a pixel is not in [0, 1] or the perturbation is longer than ``eps``.
    """
    adversarial = adversarial.detach()
    if adversarial.shape != images.shape:
        raise _violation(attack, f"shape {tuple(adversarial.shape)} for images of shape {tuple(images.shape)}")
    low, high = float(adversarial.min()), float(adversarial.max())
    if not (low >= -TOLERANCE and high <= 1 + TOLERANCE):
        raise _violation(attack, f"pixels from {low:.6g} to {high:.6g}, not within [0, 1]")
    order = torch.inf if attack.norm == "Linf" else 2
    length = float(torch.linalg.vector_norm((adversarial - images).flatten(1), ord=order, dim=1).max())
    if not length <= eps * (1 + TOLERANCE) + TOLERANCE:
        raise _violation(attack, f"a perturbation of {attack.norm} length {length:.6g} at eps = {eps:.6g}")
    return adversarial


def _violation(attack: Attack, seen: str) -> PluginError:
    return PluginError(
        f"The attack {attack.label} returned images that break its own threat model.",
        seen=f"{seen}; {attack!r}",
        do="report it to the attack's author: such results are not valid",
    )
