"""Signed gradient ascent in an L-infinity ball, on the samples that are not yet misclassified."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

    from guard_plugins.attacks.losses import AttackLoss

Gradient = Callable[["Tensor", "Tensor"], tuple["Tensor", "Tensor"]]
"""From images (B, C, H, W) and labels (B,) to the logits (B, K) and the gradient (B, C, H, W) to follow."""


def input_gradient(model: nn.Module, loss: AttackLoss) -> Gradient:
    """Return the gradient of ``loss`` with respect to the images of ``model``, as a function of images and labels.

    ``.grad`` of the parameters does not change, and the caller may be inside ``torch.no_grad``.
    """

    def gradient(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        count = len(images)
        images, labels = (_filled_up(batch, few_sizes(count)) for batch in (images, labels))
        with torch.enable_grad():
            leaf = images.detach().requires_grad_()
            logits = model(leaf)
            (grad,) = torch.autograd.grad(loss(logits, labels).sum(), leaf)
        return logits[:count].detach(), grad[:count]

    return gradient


def ascend(
    gradient: Gradient,
    images: Tensor,
    labels: Tensor,
    *,
    start: Tensor,
    eps: float,
    step_sizes: Sequence[float],
    decay: float = 0.0,
) -> Tensor:
    """Follow the sign of the gradient; a sample leaves the batch at its first misclassified iterate.

    Samples do not influence each other, so this only saves time.

    Args:
        gradient: See :data:`Gradient`.
        images: Clean images in [0, 1], shape (B, C, H, W).
        labels: True classes, shape (B,).
        start: First iterate, within the ball.
        eps: Radius of the ball in pixel units.
        step_sizes: Length per pixel of every step.
        decay: Momentum of the L1-normalised gradient (Dong et al. 2018); 0 follows the plain gradient.

    Returns:
        The first misclassified iterate of every sample, or its last one, which has not been classified; shape
        (B, C, H, W).
    """
    low, high = (images - eps).clamp(min=0.0), (images + eps).clamp(max=1.0)
    final, active = start.clone(), torch.arange(len(images), device=images.device)
    iterate, momentum = start, torch.zeros_like(start)
    for size in step_sizes:
        logits, grad = gradient(iterate, labels[active])
        fooled = logits.argmax(dim=1) != labels[active]
        if fooled.any():
            final[active[fooled]] = iterate[fooled]
            keep = ~fooled
            active, iterate, grad, momentum = active[keep], iterate[keep], grad[keep], momentum[keep]
            low, high = low[keep], high[keep]
        if not len(active):
            break
        if decay:
            grad = momentum = decay * momentum + grad / _l1(grad)
        iterate = torch.clamp(iterate + size * grad.sign(), low, high)
    final[active] = iterate
    return final


def few_sizes(count: int) -> int:
    """Return ``count``, or up to an eighth more, so that few different sizes of batches occur.

    A CPU's convolutions are prepared anew for every size, which takes about as long as a step of a small network. The
    batches of an attack shrink by a few images at every step.
    """
    unit = 1 << max(0, count.bit_length() - 4)
    return -(-count // unit) * unit


def _filled_up(batch: Tensor, size: int) -> Tensor:
    """Return the batch with its first entry repeated at the end; entries do not influence each other."""
    return batch if len(batch) == size else torch.cat([batch, batch[:1].expand(size - len(batch), *batch.shape[1:])])


def falling_steps(eps: float, steps: int) -> list[float]:
    """Return step lengths that fall along half a cosine from 2 · eps, the width of the ball, to almost 0.

    On networks for digits, 20 such steps leave fewer images correct than 100 constant steps of 2.5 · eps / steps
    (Madry et al. 2018), and as few as 100 steps of APGD-CE.
    """
    return [eps * (1 + math.cos(math.pi * step / steps)) for step in range(steps)]


def random_start(images: Tensor, *, eps: float, generator: torch.Generator) -> Tensor:
    """Return uniform points of the L-infinity balls around images, clipped to [0, 1].

    Args:
        images: Clean images in [0, 1].
        eps: Radius in pixel units.
        generator: Source of randomness, on the images' device.
    """
    noise = torch.rand(images.shape, generator=generator, device=images.device, dtype=images.dtype)
    return (images + eps * (2 * noise - 1)).clamp(0.0, 1.0)


@torch.no_grad()
def still_correct(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return which images the model classifies correctly, bool of shape (B,).

    Args:
        model: From images to logits.
        images: Shape (B, C, H, W).
        labels: True classes, shape (B,).
    """
    correct: Tensor = model(images).argmax(dim=1) == labels
    return correct


def _l1(grad: Tensor) -> Tensor:
    return grad.abs().flatten(1).sum(dim=1).clamp_min(torch.finfo(grad.dtype).tiny).view(-1, 1, 1, 1)
