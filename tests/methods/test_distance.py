from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from guard_dc.distance import Distance, gradient_distance, matched_parameters

SHAPES = [(4, 3, 2, 2), (4,), (5, 6), (5,), (3, 2, 4)]


def gradients(seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES]


def slow_layerwise(synthetic: list[Tensor], real: list[Tensor]) -> float:
    """Over rows, in plain Python numbers."""
    total = 0.0
    for s, r in zip(synthetic, real, strict=True):
        if s.dim() == 1:
            continue
        for a, b in zip(s.reshape(s.shape[0], -1).tolist(), r.reshape(r.shape[0], -1).tolist(), strict=True):
            product = sum(x * y for x, y in zip(a, b, strict=True))
            length = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(y * y for y in b))
            total += 1 - product / (length + 1e-6)
    return total


def flat(tensors: list[Tensor]) -> list[float]:
    return [value for tensor in tensors for value in tensor.flatten().tolist()]


def test_layerwise_sums_over_rows_and_ignores_vectors() -> None:
    s, r = gradients(1), gradients(2)
    assert gradient_distance(s, r, "layerwise").item() == pytest.approx(slow_layerwise(s, r), rel=1e-12)
    moved = [tensor + 5 if tensor.dim() == 1 else tensor for tensor in s]
    assert gradient_distance(moved, r, "layerwise").item() == gradient_distance(s, r, "layerwise").item()


def test_mse_sums_the_squared_differences_of_everything() -> None:
    s, r = gradients(1), gradients(2)
    expected = sum((a - b) ** 2 for a, b in zip(flat(s), flat(r), strict=True))
    assert gradient_distance(s, r, "mse").item() == pytest.approx(expected, rel=1e-12)


def test_cos_compares_everything_as_one_vector() -> None:
    s, r = gradients(1), gradients(2)
    a, b = flat(s), flat(r)
    product = sum(x * y for x, y in zip(a, b, strict=True))
    expected = 1 - product / (math.hypot(*a) * math.hypot(*b) + 1e-6)
    assert gradient_distance(s, r, "cos").item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("distance", ["layerwise", "mse", "cos"])
def test_equal_gradients_are_at_no_distance_and_zero_ones_give_no_nan(distance: Distance) -> None:
    s = gradients(1)
    assert gradient_distance(s, s, distance).item() == pytest.approx(0, abs=1e-5)
    zeros = [torch.zeros_like(tensor) for tensor in s]
    assert math.isfinite(gradient_distance(zeros, s, distance).item())


def test_only_layerwise_leaves_vectors_out() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.GroupNorm(2, 2), nn.Linear(4, 3))
    assert [weight.dim() for weight in matched_parameters(net, "layerwise")] == [4, 2]
    assert len(matched_parameters(net, "mse")) == len(matched_parameters(net, "cos")) == 6
