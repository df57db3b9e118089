"""The curriculum of CDA: how far a crop may zoom in, from easy (the whole image) to hard (small patches)."""

from __future__ import annotations

import math
from typing import Literal

Shape = Literal["step", "linear", "cosine"]


def crop_lower_bound(step: int, total: int, *, shape: Shape, alpha: float, milestone: float) -> float:
    """Return the smallest area share s_min of RandomResizedCrop at one step of the recovery.

    With t = step, N = total, m = milestone (CDA, arXiv 2311.18838, section 3)::

        t <  m N:  step    s_min = 1
                   linear  s_min = alpha + (1 - alpha) (1 - t / (m N))
                   cosine  s_min = alpha + (1 - alpha) (1 + cos(pi t / (m N))) / 2
        t >= m N:          s_min = alpha

    Args:
        step: The step, from 0.
        total: Number of steps.
        shape: How the bound falls until the milestone.
        alpha: The bound at the end.
        milestone: Share of the steps after which the bound is alpha; 0 for no curriculum.
    """
    end = milestone * total
    if step >= end:
        return alpha
    height = {"step": 1.0, "linear": 1 - step / end, "cosine": (1 + math.cos(math.pi * step / end)) / 2}[shape]
    return alpha + (1 - alpha) * height
