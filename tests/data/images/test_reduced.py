"""Large JPEGs decoded at 1/2, 1/4 or 1/8: never too small, nearly the same pixels, and only on request."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from guard_plugins.data.base import DataRequest
from guard_plugins.data.datasets.folder import Folder
from guard_plugins.data.images import decode as decoding
from guard_plugins.data.images.decode import decode
from guard_plugins.data.images.target import Target
from guard_plugins.errors import DataError

TARGET = Target(channels=3, height=16, width=16, crop=1.0, reduced=True)


def photograph(path, *, width=203, height=140, mode="RGB", **saving):
    """A smooth picture, as cameras make them."""
    rows, columns = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    bands = [np.sin(3 * rows + k * columns) * 100 + 128 for k in range(1, 5)]
    pixels = np.stack(bands, -1).astype(np.uint8)
    Image.fromarray(pixels[..., 0] if mode == "L" else pixels[..., : len(mode)], mode=mode).save(path, **saving)
    return path


@given(st.integers(1, 600), st.integers(1, 600), st.integers(1, 64), st.sampled_from([1.0, 0.875, 0.5]))
def test_what_is_left_is_never_smaller_than_needed(width, height, side, crop):
    target = replace(TARGET, height=side, width=side, crop=crop)
    scale = target.scale(width, height)
    assert scale in (1, 2, 4, 8)
    assert scale == 1 or min(width, height) / scale * crop >= side
    assert scale == 8 or min(width, height) / (2 * scale) * crop < side
    assert replace(target, reduced=False).scale(width, height) == 1
    assert replace(target, crop=None).scale(width, height) == 1


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize(("width", "height"), [(203, 140), (140, 203), (33, 32), (32, 300), (31, 90)])
def test_pixels_are_nearly_those_of_the_whole_decoding(tmp_path, mode, width, height):
    path = photograph(tmp_path / "0.jpg", width=width, height=height, mode=mode, quality=95)
    whole, reduced = (decode(path, replace(TARGET, reduced=on)).astype(int) for on in (False, True))
    assert whole.shape == reduced.shape == (3, 16, 16)
    assert np.abs(whole - reduced).max() <= 16
    assert np.abs(whole - reduced).mean() <= 2
    assert (TARGET.scale(width, height) > 1) == bool((whole != reduced).any())


def test_the_decoder_is_asked_for_less(tmp_path, monkeypatch):
    sizes = []
    real = decoding.require_whole
    monkeypatch.setattr(
        decoding, "require_whole", lambda image, source: (real(image, source), sizes.append(image.size))
    )
    photograph(tmp_path / "0.jpg")
    photograph(tmp_path / "0.png")
    for name in ("0.jpg", "0.png"):
        decode(tmp_path / name, TARGET)
        decode((tmp_path / name).read_bytes(), replace(TARGET, reduced=False))
    assert sizes == [(26, 18), (203, 140), (203, 140), (203, 140)]


def folder(root, **saving):
    for split in ("train", "test"):
        for name in ("a", "b"):
            (root / split / name).mkdir(parents=True)
            photograph(root / split / name / f"0.{saving.get('ending', 'jpg')}")
    return root


def test_a_folder_is_read_so_and_a_cache_tells_the_two_apart(tmp_path):
    root, index = folder(tmp_path / "data"), torch.tensor([0, 1])
    request = DataRequest(root=root, image_size=16, cache=tmp_path / "cache")
    images = [
        Folder().load(asked).train.images(index)
        for asked in (request, replace(request, reduced_decode=True), replace(request, reduced_decode=True, cache=None))
    ]
    assert not torch.equal(images[0], images[1])
    assert torch.equal(images[1], images[2])


@pytest.mark.parametrize(
    ("ending", "size", "seen", "advice"),
    [
        ("jpg", None, "the largest JPEG: 203x140 pixels; asked for: 203x140", "Pass --data.image-size too"),
        ("jpg", 71, "the largest JPEG: 203x140 pixels; asked for: 71x71", "Leave it out"),
        ("png", 16, "the largest JPEG: no JPEG at all; asked for: 16x16", "Leave it out"),
    ],
)
def test_it_is_refused_where_no_file_allows_it(tmp_path, ending, size, seen, advice):
    root = folder(tmp_path, ending=ending)
    with pytest.raises(DataError, match="at least twice the size") as error:
        Folder().load(DataRequest(root=root, image_size=size, reduced_decode=True))
    assert seen in str(error.value)
    assert advice in str(error.value)
