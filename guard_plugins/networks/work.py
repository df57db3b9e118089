"""How much a network computes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def operations(model: nn.Module, image_shape: tuple[int, int, int]) -> int:
    """Return the multiplications and additions of a forward pass of one image, in convolutions and linear layers.

    Args:
        model: From images to logits; left in eval mode.
        image_shape: (C, H, W).
    """
    count = 0

    def note(layer: nn.Module, _given: tuple[Any, ...], out: Tensor) -> None:
        nonlocal count
        weight = layer.weight
        assert isinstance(weight, Tensor)
        count += 2 * weight[0].numel() * out.numel()

    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    handles = [layer.register_forward_hook(note) for layer in layers]
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, *image_shape, device=next(model.parameters()).device))
    finally:
        for handle in handles:
            handle.remove()
    return count
