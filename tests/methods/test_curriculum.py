from __future__ import annotations

import math

import pytest

from guard_cda.curriculum import Shape, crop_lower_bound


def bound(step: int, total: int = 1000, shape: Shape = "cosine", alpha: float = 0.08, milestone: float = 1.0) -> float:
    return crop_lower_bound(step, total, shape=shape, alpha=alpha, milestone=milestone)


@pytest.mark.parametrize(("step", "expected"), [(0, 1.0), (250, 0.865), (500, 0.54), (750, 0.215), (1000, 0.08)])
def test_the_published_cosine_at_its_quarters(step: int, expected: float) -> None:
    assert bound(step) == pytest.approx(expected, abs=5e-4)


@pytest.mark.parametrize(("step", "expected"), [(0, 1.0), (250, 0.77), (500, 0.54), (999, 0.08092)])
def test_linear_falls_evenly(step: int, expected: float) -> None:
    assert bound(step, shape="linear") == pytest.approx(expected)


@pytest.mark.parametrize(("step", "expected"), [(0, 1.0), (499, 1.0), (500, 0.08), (999, 0.08)])
def test_step_falls_at_the_milestone(step: int, expected: float) -> None:
    assert bound(step, shape="step", milestone=0.5) == expected


@pytest.mark.parametrize("shape", ["step", "linear", "cosine"])
def test_without_a_milestone_there_is_no_curriculum(shape: Shape) -> None:
    assert {bound(step, shape=shape, milestone=0.0) for step in range(0, 1000, 50)} == {0.08}


@pytest.mark.parametrize("shape", ["linear", "cosine"])
def test_every_step_agrees_with_the_formula_written_out(shape: Shape) -> None:
    total, m, alpha = 90, 0.7, 0.3
    for t in range(total):
        if t >= m * total:
            expected = alpha
        elif shape == "linear":
            expected = alpha + (1 - alpha) * (1 - t / (m * total))
        else:
            expected = alpha + (1 - alpha) * (1 + math.cos(math.pi * t / (m * total))) / 2
        assert bound(t, total, shape, alpha, m) == pytest.approx(expected, abs=1e-12)
