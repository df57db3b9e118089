from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from guard_plugins.data.images.decode import decode, read_header
from guard_plugins.data.images.target import Target
from guard_plugins.errors import DataError

GREY = Target(channels=1, height=4, width=4)
COLOUR = Target(channels=3, height=4, width=4)


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (4, 4, 4), np.uint8)


def put(tmp_path, image, ending="png", **options):
    path = tmp_path / f"image.{ending}"
    image.save(path, **options)
    return path


def test_colour(tmp_path, values):
    path = put(tmp_path, Image.fromarray(values[..., :3]))
    assert np.array_equal(decode(path, COLOUR), values[..., :3].transpose(2, 0, 1))
    assert not read_header(path).grey


def test_colour_as_grey_is_luma(tmp_path, values):
    path = put(tmp_path, Image.fromarray(values[..., :3]))
    luma = values[..., :3] @ np.array([0.299, 0.587, 0.114])
    assert np.abs(decode(path, GREY)[0] - luma).max() <= 1


def test_grey_fills_three_channels(tmp_path, values):
    path = put(tmp_path, Image.fromarray(values[..., 0]))
    assert np.array_equal(decode(path, GREY)[0], values[..., 0])
    assert all(np.array_equal(channel, values[..., 0]) for channel in decode(path, COLOUR))
    assert read_header(path).grey


def test_alpha_lies_over_white(tmp_path, values):
    path = put(tmp_path, Image.fromarray(values, "RGBA"))
    alpha = values[..., 3:].astype(float) / 255
    expected = (values[..., :3] * alpha + 255 * (1 - alpha)).transpose(2, 0, 1)
    assert np.abs(decode(path, COLOUR) - expected).max() <= 1
    values[..., 3] = 0
    assert (decode(put(tmp_path, Image.fromarray(values, "RGBA")), COLOUR) == 255).all()


def test_grey_with_alpha(tmp_path, values):
    path = put(tmp_path, Image.fromarray(values[..., :2], "LA"))
    alpha = values[..., 1].astype(float) / 255
    assert np.abs(decode(path, GREY)[0] - (values[..., 0] * alpha + 255 * (1 - alpha))).max() <= 1
    assert read_header(path).grey


def test_palette_is_looked_up(tmp_path):
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    path = put(tmp_path, image)
    assert np.array_equal(decode(path, COLOUR)[:, 0, 0], [10, 200, 30])
    path = put(tmp_path, image, transparency=1)
    assert (decode(path, COLOUR) == 255).all()


def test_sixteen_bit_grey_uses_the_whole_range(tmp_path):
    values = np.array([[0, 128, 129, 257]] * 2 + [[65535, 65406, 32768, 25700]] * 2, np.uint16)
    path = put(tmp_path, Image.fromarray(values))
    assert read_header(path).grey
    expected = [[0, 0, 1, 1]] * 2 + [[255, 254, 128, 100]] * 2
    assert np.array_equal(decode(path, GREY)[0], expected)
    assert np.array_equal(decode(path, COLOUR)[1], expected)


def test_black_and_white(tmp_path):
    path = put(tmp_path, Image.fromarray(np.eye(4, dtype=np.uint8) * 255).convert("1"))
    assert np.array_equal(decode(path, GREY)[0], np.eye(4) * 255)


def test_printers_colours(tmp_path):
    path = put(tmp_path, Image.new("CMYK", (4, 4), (255, 0, 0, 0)), "tif")
    assert np.array_equal(decode(path, COLOUR)[:, 0, 0], [0, 255, 255])


def test_floats_are_refused(tmp_path):
    path = put(tmp_path, Image.fromarray(np.zeros((4, 4), np.float32)), "tif")
    with pytest.raises(DataError, match=r"(?s)floating-point.*Convert it to 8 or 16 bits"):
        decode(path, GREY)


def test_another_size_is_refused_without_a_crop(tmp_path):
    path = put(tmp_path, Image.new("RGB", (5, 4)))
    with pytest.raises(DataError, match=r"(?s)another size.*5x4 pixels instead of 4x4.*--data.image-size"):
        decode(path, COLOUR)


def test_crop_keeps_a_fraction_of_the_shorter_side(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)
    path = put(tmp_path, Image.fromarray(values))
    half = decode(path, Target(channels=3, height=4, width=4, crop=0.5))
    assert np.array_equal(half, values[2:6, 4:8].transpose(2, 0, 1))


def test_crop_equals_resizing_to_256_and_cropping_224(tmp_path):
    smooth = np.add.outer(np.arange(80), np.arange(120))[..., None] + np.array([0, 20, 40])
    path = put(tmp_path, Image.fromarray(smooth.astype(np.uint8)))
    by_torchvision = Image.open(path).resize((48, 32), Image.Resampling.BILINEAR).crop((10, 2, 38, 30))
    ours = decode(path, Target(channels=3, height=28, width=28, crop=28 / 32))
    assert np.abs(ours.astype(int) - np.array(by_torchvision).transpose(2, 0, 1)).max() <= 2


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    path = put(tmp_path, frames[0], "gif", save_all=True, append_images=frames[1:])
    assert np.array_equal(decode(path, COLOUR)[:, 0, 0], [255, 0, 0])
