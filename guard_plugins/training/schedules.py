"""Learning-rate schedules, stepped once per optimiser step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from guard_plugins.training.recipes import Schedule

RISE: Final = 0.3
"""Share of the steps in which one-cycle rises to its peak (Smith & Topin 2018, as PyTorch's OneCycleLR defaults)."""

WARM_UP: Final = 0.05
"""Share of the steps of the linear warm-up (5 of SRe2L's 100 epochs on Tiny ImageNet)."""


def one_cycle(step: int, total: int) -> float:
    """Return the factor on the peak rate: a cosine from 1/25 up to 1, then down to 0."""
    rise = max(RISE * total, 1.0)
    if step < rise:
        return 1.0 + (1 / 25 - 1.0) * (1 + math.cos(math.pi * step / rise)) / 2
    return (1 + math.cos(math.pi * min((step - rise) / max(total - rise, 1.0), 1.0))) / 2


def cosine(step: int, total: int) -> float:
    """Return the factor on the initial rate: a cosine from 1 down to 0."""
    return (1 + math.cos(math.pi * min(step / total, 1.0))) / 2


def warm_up_cosine(step: int, total: int) -> float:
    """Return the factor on the peak rate: a line from 1/100 up to 1, then a cosine down to 0."""
    rise = WARM_UP * total
    if step < rise:
        return 0.01 + 0.99 * step / rise
    return cosine(round(step - rise), max(round(total - rise), 1))


def half_cosine(step: int, total: int) -> float:
    """Return the factor on the initial rate: the first half of a cosine, from 1 down to 1/2 ("smoothed", RDED)."""
    return (1 + math.cos(math.pi * min(step / total, 1.0) / 2)) / 2


def step_down(step: int, total: int) -> float:
    """Return the factor on the initial rate: 1, and a tenth from half way on."""
    return 1.0 if step <= total // 2 else 0.1


def late_steps(step: int, total: int) -> float:
    """Return the factor on the initial rate: halved after 80, 90 and 95 % of the steps (EDC, arXiv 2404.13733)."""
    return 0.5 ** sum(20 * step >= share * total for share in (16, 18, 19))


_FACTORS: Final[dict[Schedule, Callable[[int, int], float]]] = {
    "one-cycle": one_cycle, "cosine": cosine, "warm-up-cosine": warm_up_cosine, "half-cosine": half_cosine,
    "step": step_down, "late-steps": late_steps,
}  # fmt: skip


def learning_rate(optimizer: Optimizer, schedule: Schedule, total: int) -> LambdaLR:
    """Return a scheduler that multiplies the optimiser's own rate, which is the peak or initial one.

    Args:
        optimizer: The optimiser.
        schedule: Name of the schedule.
        total: Number of steps.
    """
    factor = _FACTORS[schedule]
    return LambdaLR(optimizer, lambda step: factor(step, total))
