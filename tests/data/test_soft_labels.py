"""Soft labels are logits or probabilities, told apart row by row; a set's images become float32."""

from __future__ import annotations

import math

import pytest
import torch

from guard_plugins.data.distilled import DistilledSet
from guard_plugins.data.soft_labels import are_probabilities, logits_of


def test_rows_that_sum_to_one_are_probabilities_and_others_logits() -> None:
    chances = torch.tensor([[0.2, 0.8], [0.5, 0.5]])
    assert are_probabilities(chances)
    assert are_probabilities(chances.reshape(1, 2, 2)), "a row for every view"
    for other in ([[0.2, 0.9], [0.5, 0.5]], [[-0.1, 1.1], [0.5, 0.5]], [[0.0, 0.0], [0.0, 0.0]]):
        rows = torch.tensor(other)
        assert not are_probabilities(rows)
        assert torch.equal(logits_of(rows), rows)


def test_probabilities_become_finite_logarithms() -> None:
    found = logits_of(torch.tensor([[0.25, 0.75], [0.0, 1.0]]))
    assert torch.allclose(found, torch.tensor([[math.log(0.25), math.log(0.75)], [math.log(1e-8), 0.0]]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_images_of_other_precision_are_read_as_float32(dtype: torch.dtype) -> None:
    images = torch.rand(4, 1, 2, 2).to(dtype)
    found = DistilledSet(images, torch.arange(4)).as_floats().images
    assert found.dtype == torch.float32
    assert torch.equal(found, images.float())
