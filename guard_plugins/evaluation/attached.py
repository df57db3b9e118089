"""Models that autograd does not connect with their pixels, made fit for attacks, which differentiate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from guard_plugins.runtime.eval_mode import borrowed, device_of

if TYPE_CHECKING:
    from guard_plugins.evaluation.images import Images


def attached(model: nn.Module, images: Images) -> nn.Module:
    """Return a model whose logits can be differentiated by the pixels: itself, or one with gradients of zero.

    A forward pass under ``no_grad``, in NumPy or of constants would end an attack with an error of autograd's. With
    zeros, attacks run, and the release gate says that no gradient reaches the pixels.

    Args:
        model: From images in [0, 1] to logits.
        images: Images, shape (N, C, H, W); two are looked at.
    """
    with borrowed(model), torch.enable_grad():
        leaf = images[:2].to(device_of(model)).clone().requires_grad_()
        reached = model(leaf).requires_grad
    return model if reached else _Attached(model)


class _Attached(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images)
        return logits + 0 * images.flatten(1).sum(dim=1, keepdim=True)
