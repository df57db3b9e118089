"""The regulariser of GUARD (arXiv 2403.10045).

For a batch with mean loss ℓ̄ and g_i = ∇_{x_i} ℓ̄(x):   z_i = h · g_i / ‖g_i‖₂, held constant, and

* ``penalty="loss"``:      ℓ̄(x) + weight · |ℓ̄(x + z) − ℓ̄(x)|
* ``penalty="gradient"``:  ℓ̄(x) + weight · Σ_i ‖∇_{x_i} ℓ̄(x + z) − ∇_{x_i} ℓ̄(x)‖₂   (CURE, arXiv 1811.09716)

Both are of degree one in the loss, so factors the loop puts on it (gradient scaling, accumulation) pass through.
Along z, ℓ̄(x + z) − ℓ̄(x) ≈ h‖g‖ + ½h²κ, where ‖g‖ = Σ_i ‖g_i‖ is the mean over samples of their own gradients' norm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_TINY = 1e-16


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one regularised backward pass measured; scalars on the model's device, without graph.

    Attributes:
        loss: ℓ̄(x), as the loop passed it to backward.
        term: The term before its weight.
        gradient_norm: ‖g‖.
        curvature: κ along z.
    """

    loss: Tensor
    term: Tensor
    gradient_norm: Tensor
    curvature: Tensor


def sample_norms(gradient: Tensor) -> Tensor:
    """Return ‖g_i‖₂ for each sample, shape (B,), in float32 at least."""
    precise = gradient if gradient.dtype == torch.float64 else gradient.float()
    norms: Tensor = torch.linalg.vector_norm(precise.flatten(1) if precise.dim() > 1 else precise[:, None], dim=1)
    return norms


def step_along(gradient: Tensor, norms: Tensor, h: float) -> Tensor:
    """Return z of shape and dtype of ``gradient`` (B, …): length ``h`` per sample, zero where the gradient is zero.

    Args:
        gradient: g, of shape (B, …).
        norms: ‖g_i‖₂, of shape (B,).
        h: L2 length of each z_i.
    """
    scale = (h / norms.clamp_min(_TINY)).reshape(-1, *[1] * (gradient.dim() - 1))
    return (gradient * scale).to(gradient.dtype).detach()


Norms = Callable[[Sequence[Tensor]], Sequence[Tensor]]


def gradient_term(displaced: Sequence[Tensor], here: Sequence[Tensor], norms: Norms | None = None) -> Tensor:
    """Return Σ_i ‖g⁺_i − g_i‖₂ over all samples of all inputs, a scalar.

    Args:
        displaced: g⁺ = ∇ℓ̄(x + z), one tensor (B, …) per input.
        here: g = ∇ℓ̄(x), likewise.
        norms: Maps one tensor per input to per-sample norms; by default each input has its own.
    """
    differences = [there - near for there, near in zip(displaced, here, strict=True)]
    found = [sample_norms(d) for d in differences] if norms is None else norms(differences)
    return torch.stack([each.sum() for each in found]).sum()


def curvature(difference: Tensor, slope: Tensor, h: float) -> Tensor:
    """Return κ = 2 (ℓ̄(x+z) − ℓ̄(x) − h‖g‖) / h², the mean curvature along z.

    Args:
        difference: ℓ̄(x + z) − ℓ̄(x).
        slope: h‖g‖, the first-order part of it.
        h: L2 length of z.
    """
    return 2 * (difference - slope) / h**2
