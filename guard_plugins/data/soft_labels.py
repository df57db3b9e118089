"""Soft labels as methods and other code bases give them: logits, or probabilities."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

_SMALLEST_PROBABILITY: Final = 1e-8


def are_probabilities(soft: Tensor) -> bool:
    """Return whether all rows are probabilities: no negative number, and a sum of 1 up to 0.001.

    Args:
        soft: Shape (..., K).
    """
    return bool((soft >= 0).all()) and torch.allclose(soft.sum(-1), torch.ones_like(soft[..., 0]), atol=1e-3)


def logits_of(soft: Tensor) -> Tensor:
    """Return soft labels as logits: probabilities become their logarithms, anything else is logits already.

    Args:
        soft: Shape (..., K).
    """
    return soft.clamp(min=_SMALLEST_PROBABILITY).log() if are_probabilities(soft) else soft
