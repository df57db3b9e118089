from __future__ import annotations

import pytest
import torch

from guard_plugins.data.images import statistics
from guard_plugins.data.images.statistics import channel_statistics
from guard_plugins.data.splits import TensorSplit


def split(count: int, dtype: torch.dtype = torch.uint8) -> TensorSplit:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (count, 2, 3, 5), dtype=torch.uint8, generator=generator)
    return TensorSplit(pixels if dtype == torch.uint8 else pixels.to(dtype) / 255, torch.zeros(count))


@pytest.mark.parametrize("count", [1, 511, 512, 1300])
def test_equals_the_definition(count):
    mean, std = channel_statistics(split(count))
    pixels = split(count).pixels.double() / 255
    assert mean == pytest.approx(pixels.mean((0, 2, 3)).tolist(), abs=1e-6)
    assert std == pytest.approx(pixels.std((0, 2, 3), unbiased=False).tolist(), abs=1e-6)


def test_large_splits_are_measured_on_evenly_spaced_images(monkeypatch):
    monkeypatch.setattr(statistics, "MOST_IMAGES", 4)
    mean, _ = channel_statistics(split(10))
    pixels = split(10).pixels[[0, 2, 5, 7]].double() / 255
    assert mean == pytest.approx(pixels.mean((0, 2, 3)).tolist(), abs=1e-6)


def test_blank_images_do_not_make_the_model_divide_by_zero():
    blank = TensorSplit(torch.full((3, 1, 2, 2), 0.25), torch.zeros(3))
    assert channel_statistics(blank) == (pytest.approx((0.25,)), pytest.approx((1e-3,)))
