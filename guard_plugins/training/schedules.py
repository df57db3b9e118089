"""Learning-rate schedules, stepped once per optimiser step."""

from __future__ import annotations

import math
from typing import Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

Schedule = Literal["one-cycle", "cosine"]
WARM_UP = 0.3
"""Share of the steps in which one-cycle rises to its peak (Smith & Topin 2018, as PyTorch's OneCycleLR defaults)."""


def one_cycle(step: int, total: int) -> float:
    """Return the factor on the peak rate: a cosine from 1/25 up to 1, then down to 0."""
    rise = max(WARM_UP * total, 1.0)
    if step < rise:
        return 1.0 + (1 / 25 - 1.0) * (1 + math.cos(math.pi * step / rise)) / 2
    return (1 + math.cos(math.pi * min((step - rise) / max(total - rise, 1.0), 1.0))) / 2


def cosine(step: int, total: int) -> float:
    """Return the factor on the initial rate: a cosine from 1 down to 0."""
    return (1 + math.cos(math.pi * min(step / total, 1.0))) / 2


def learning_rate(optimizer: Optimizer, schedule: Schedule, total: int) -> LambdaLR:
    """Return a scheduler over ``total`` steps for the optimiser's own (peak or initial) rate."""
    factor = {"one-cycle": one_cycle, "cosine": cosine}[schedule]
    return LambdaLR(optimizer, lambda step: factor(step, total))
