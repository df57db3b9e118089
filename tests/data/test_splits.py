from __future__ import annotations

import pytest
import torch

from guard_plugins.data.base import DataRequest
from guard_plugins.data.images.resize import resize
from guard_plugins.data.splits import TensorSplit, first_per_class
from guard_plugins.errors import DataError


def test_bytes_become_floats_in_the_unit_interval():
    pixels = torch.arange(2 * 3 * 4 * 4, dtype=torch.uint8).view(2, 3, 4, 4)
    split = TensorSplit(pixels, torch.tensor([1, 0]))
    images = split.images(torch.tensor([1, 0, 1]))
    assert images.dtype == torch.float32
    assert torch.equal(images, pixels[[1, 0, 1]].float() / 255)
    assert len(split) == 2


def test_byte_255_is_exactly_one():
    split = TensorSplit(torch.full((1, 1, 2, 2), 255, dtype=torch.uint8), torch.zeros(1))
    assert split.images(torch.tensor([0])).eq(1).all()
    assert split.labels.dtype == torch.int64


def test_reading_never_changes_what_is_stored():
    for pixels in (torch.rand(2, 1, 4, 4), torch.randint(256, (2, 1, 4, 4), dtype=torch.uint8)):
        before = pixels.clone()
        TensorSplit(pixels, torch.zeros(2)).images(torch.arange(2)).zero_()
        assert torch.equal(pixels, before)


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan")])
def test_floats_outside_the_unit_interval(bad):
    pixels = torch.rand(1, 1, 2, 2)
    pixels[0, 0, 0, 0] = bad
    with pytest.raises(DataError, match=r"must lie in \[0, 1\]"):
        TensorSplit(pixels, torch.zeros(1))


def test_shapes_that_do_not_fit():
    with pytest.raises(DataError, match=r"(?s)do not fit.*\(3, 1, 2, 2\).*\(2,\)"):
        TensorSplit(torch.rand(3, 1, 2, 2), torch.zeros(2))


def test_first_per_class_keeps_file_order():
    labels = torch.tensor([2, 0, 2, 0, 1, 2, 0])
    assert first_per_class(labels, 2).tolist() == [0, 1, 2, 3, 4]
    assert first_per_class(labels, 1).tolist() == [0, 1, 4]
    assert first_per_class(labels, None).tolist() == list(range(7))
    assert first_per_class(labels, 100).tolist() == list(range(7))
    assert first_per_class(labels[:0], 3).tolist() == []


@pytest.mark.parametrize("field", ["image_size", "train_per_class", "test_per_class"])
def test_a_request_below_one(field):
    with pytest.raises(DataError, match=rf"{field} must be at least 1\.\n  seen: {field}=0"):
        DataRequest(**{field: 0})


def test_resize_halves_by_averaging_and_keeps_constants():
    flat = torch.full((2, 3, 8, 8), 77, dtype=torch.uint8)
    assert resize(flat, 4).eq(77).all()
    assert resize(flat, 4).dtype == torch.uint8
    assert resize(flat, None) is flat
    assert resize(flat, 8) is flat


def test_resize_agrees_with_pillow():
    from PIL import Image

    pixels = torch.randint(256, (1, 1, 24, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for side in (8, 16, 40):
        by_pillow = Image.fromarray(pixels[0, 0].numpy()).resize((side, side), Image.Resampling.BILINEAR)
        twin = torch.tensor(list(by_pillow.tobytes())).view(side, side)
        assert (resize(pixels, side)[0, 0].int() - twin.int()).abs().max() <= 1
