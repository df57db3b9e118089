"""The largest absolute eigenvalue of each image's input Hessian, by Lanczos on all images at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

if TYPE_CHECKING:
    from torch import Tensor, nn

Product = Callable[["Tensor"], "Tensor"]
"""From vectors (B, d) to the products (B, d) of B symmetric matrices with them."""


def largest_eigenvalue(
    model: nn.Module, images: Tensor, labels: Tensor, *, steps: int, generator: torch.Generator
) -> Tensor:
    """Return |λ|max of the Hessian of each image's cross-entropy with respect to its pixels, shape (B,).

    One forward pass is enough for all products. In eval mode images do not influence each other, so the Hessian of the
    summed loss is block-diagonal, and one double backward multiplies each block with its own vector.

    Args:
        model: From images (B, C, H, W) to logits, in eval mode.
        images: Images.
        labels: True classes, shape (B,).
        steps: Krylov dimension, at most C·H·W; the result is exact from the Hessian's rank plus one on.
        generator: Source of the starting vectors.
    """
    # Fused attention kernels have no double backward.
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        leaf = images.detach().requires_grad_()
        loss = F.cross_entropy(model(leaf), labels, reduction="sum")
        (grad,) = torch.autograd.grad(loss, leaf, create_graph=True)

    def product(vectors: Tensor) -> Tensor:
        if not grad.requires_grad:  # a model that is linear in its input up to the loss's constants
            return torch.zeros_like(vectors)
        with sdpa_kernel(SDPBackend.MATH):
            (out,) = torch.autograd.grad(grad, leaf, vectors.view_as(grad), retain_graph=True)
        return out.flatten(1)

    start = torch.randn(images.shape, generator=generator, device=images.device, dtype=images.dtype)
    return lanczos(product, start.flatten(1), steps=steps).abs().amax(dim=1)


def lanczos(product: Product, start: Tensor, *, steps: int) -> Tensor:
    """Return the Ritz values of B symmetric matrices at once, shape (B, steps); padded with zeros after a breakdown.

    Vectors are fully reorthogonalised, twice (Parlett 1998), since float32 loses orthogonality within a few steps.

    Args:
        product: Multiplies the matrices with vectors.
        start: Starting vectors, shape (B, d).
        steps: Krylov dimension.
    """
    vector = start / start.norm(dim=1, keepdim=True)
    basis: list[Tensor] = []
    steps = min(steps, start.shape[1])
    diagonal, side = start.new_zeros(len(start), steps), start.new_zeros(len(start), steps)
    for step in range(steps):
        basis.append(vector)
        after = product(vector)
        diagonal[:, step] = (after * vector).sum(dim=1)
        size = after.norm(dim=1)
        known = torch.stack(basis, dim=1)
        for _ in range(2):
            after = after - torch.einsum("bkd,bk->bd", known, torch.einsum("bkd,bd->bk", known, after))
        length = after.norm(dim=1)
        # A remainder at the level of rounding is noise: going on with it would give false eigenvalues.
        alive = length > 1e2 * torch.finfo(start.dtype).eps * torch.maximum(size, diagonal.abs().amax(dim=1))
        side[:, step] = torch.where(alive, length, 0.0)
        vector = torch.where(alive[:, None], after / length.clamp_min(torch.finfo(start.dtype).tiny)[:, None], 0.0)
        if not alive.any():
            break
    off = torch.diag_embed(side[:, : steps - 1], offset=1)
    tridiagonal = torch.diag_embed(diagonal) + off + off.mT
    values: Tensor = torch.linalg.eigvalsh(tridiagonal)
    return values
