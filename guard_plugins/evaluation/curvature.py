"""Measures the curvature of a trained model's loss around images: along the gradient and in the worst direction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from guard_plugins.evaluation.lanczos import largest_eigenvalue
from guard_plugins.evaluation.predictions import check_pairs
from guard_plugins.networks.folded import folded
from guard_plugins.runtime.eval_mode import borrowed, device_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from guard_plugins.evaluation.images import Images
    from guard_plugins.runtime.seeds import Seeds


@dataclass(frozen=True, eq=False)
class Curvature:
    """Per-image measurements of the loss ℓ around images x, each of shape (N,), on the CPU.

    Attributes:
        h: L2 length of the step z along the gradient, in pixel units.
        loss: ℓ(x).
        rise: ℓ(x + z) − ℓ(x), as in the hook's loss penalty.
        gradient_norm: ‖∇ℓ(x)‖₂.
        along_gradient: κ = 2 (ℓ(x + z) − ℓ(x) − h ‖∇ℓ(x)‖) / h², the finite-difference curvature along z.
        eigenvalue: |λ|max, the largest absolute eigenvalue of the Hessian of ℓ at x.
    """

    h: float
    loss: Tensor
    rise: Tensor
    gradient_norm: Tensor
    along_gradient: Tensor
    eigenvalue: Tensor

    def bound(self, radius: float | Tensor) -> Tensor:
        """Return the second-order bound ‖g‖ε + ½|λ|ε² on the loss's rise at L2 radius ε (GUARD, section 3)."""
        return self.gradient_norm * radius + 0.5 * self.eigenvalue * radius**2


def measure_curvature(
    model: nn.Module,
    images: Images,
    labels: Tensor,
    *,
    h: float,
    batch_size: int,
    seeds: Seeds,
    lanczos_steps: int = 20,
) -> Curvature:
    """Measure the curvature of the cross-entropy around every image.

    Args:
        model: From images in [0, 1] to logits; normalisation inside.
        images: Images in [0, 1], shape (N, C, H, W).
        labels: True classes, shape (N,).
        h: L2 length of the step along the gradient in pixel units: h of the training, or h_rms · √(C·H·W).
        batch_size: Images per batch; Lanczos holds ``lanczos_steps`` vectors of the batch's size.
        seeds: Source of Lanczos' starting vectors.
        lanczos_steps: Krylov dimension. The Hessian of a ReLU network has a rank below the number of classes, so as
            many steps as classes are exact.

    Raises:
        DataError: If there is nothing to measure or the lengths differ.
    """
    check_pairs(images, labels)
    device, columns = device_of(model), []
    with borrowed(model):
        quick = folded(model)
        for index, (x, y) in enumerate(zip(images.split(batch_size), labels.split(batch_size), strict=True)):
            x, y = x.to(device), y.to(device)
            generator = seeds.generator("curvature", index, device=device)
            loss, rise, norm = step_along_gradient(quick, x, y, h=h)
            eigenvalue = largest_eigenvalue(quick, x, y, steps=lanczos_steps, generator=generator)
            columns.append(torch.stack([loss, rise, norm, 2 * (rise - h * norm) / h**2, eigenvalue]).cpu())
    return Curvature(h, *torch.cat(columns, dim=1).unbind())


def step_along_gradient(model: nn.Module, images: Tensor, labels: Tensor, *, h: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return ℓ(x), ℓ(x + z) − ℓ(x) and ‖∇ℓ(x)‖₂ for z = h ∇ℓ(x) / ‖∇ℓ(x)‖₂, each of shape (B,).

    Args:
        model: From images in [0, 1] to logits, in eval mode.
        images: Images, shape (B, C, H, W).
        labels: True classes, shape (B,).
        h: L2 length of z in pixel units.
    """
    with torch.enable_grad():
        leaf = images.detach().requires_grad_()
        loss = F.cross_entropy(model(leaf), labels, reduction="none")
        (grad,) = torch.autograd.grad(loss.sum(), leaf)
    norm = grad.flatten(1).norm(dim=1)
    z = h * grad / norm.clamp_min(torch.finfo(grad.dtype).tiny).view(-1, 1, 1, 1)
    with torch.no_grad():
        there = F.cross_entropy(model(images + z), labels, reduction="none")
    return loss.detach(), there - loss.detach(), norm
