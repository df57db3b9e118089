"""Images deeper than 8 bits, damaged PNGs, Exif rotation, and what counts as a class's image."""

from __future__ import annotations

import os
import struct
import unicodedata
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from guard_plugins.data.base import DataRequest
from guard_plugins.data.datasets.folder import Folder
from guard_plugins.data.images.decode import decode
from guard_plugins.data.images.listing import image_files
from guard_plugins.data.images.target import Target
from guard_plugins.data.images.whole import require_whole
from guard_plugins.errors import DataError

CLASSES = ("a", "b")


def load(root, **request):
    return Folder().load(DataRequest(root=root, **request))


def every(split):
    return split.images(torch.arange(len(split)))


def deep_set(root, values, ending="png"):
    """Two classes, one image each in both splits, all with the same numbers."""
    for split in ("train", "test"):
        for name in CLASSES:
            (root / split / name).mkdir(parents=True)
            Image.fromarray(values).save(root / split / name / f"0.{ending}")
    return root


RAMP = np.linspace(0, 1, 64).reshape(8, 8)


@pytest.mark.parametrize(
    ("values", "ending", "asked", "seen"),
    [
        ((RAMP * 4095).astype(np.uint16), "png", (0, 4095), "numbers from 0 to 4095"),
        ((RAMP * 1023).astype(np.uint16), "tif", (0, 1023), "numbers from 0 to 1023"),
        ((RAMP * 2**24).astype(np.int32), "tif", (0, 2**24), "numbers from 0 to 1.67772e+07"),
        ((RAMP * 4024 - 1024).astype(np.int32), "tif", (-1024, 3000), "numbers from -1024 to 3000"),
        (RAMP.astype(np.float32), "tif", (0, 1), "numbers from 0 to 1 "),
        ((RAMP * 5 - 2).astype(np.float32), "tif", (-2, 3), "numbers from -2 to 3"),
    ],
    ids=["12 bits", "10 bits", "32 bits", "signed", "float", "any float"],
)
def test_deep_images_need_a_range_and_keep_their_contrast_with_it(tmp_path, values, ending, asked, seen):
    root = deep_set(tmp_path, values, ending)
    with pytest.raises(DataError, match="deeper than 8 bits") as caught:
        load(root)
    assert seen in caught.value.seen
    assert "--data.range" in caught.value.do
    images = every(load(root, range=asked).train)
    assert images.shape == (2, 1, 8, 8)
    assert (
        np.abs(images[0, 0].numpy() - (values.astype(float) - asked[0]) / (asked[1] - asked[0])).max()
        <= 0.5 / 255 + 1e-6
    )


def colour_of_16_bits(values: np.ndarray) -> bytes:
    """A PNG of (H, W, C) values, C of 3 or 4, with 16 bits a channel; Pillow reads but does not write them."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, channels = values.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize(("top", "read"), [(1023, False), (4095, False), (16383, False), (16640, True), (65535, True)])
def test_colour_of_16_bits_that_uses_fewer_is_refused(tmp_path, channels, top, read):
    root = deep_set(tmp_path, (RAMP * 255).astype(np.uint8))
    values = np.repeat((RAMP * top).astype(np.uint16)[..., None], channels, axis=2)
    values[..., 3:] = 65535  # an opaque alpha channel says nothing of the colours
    for file in root.rglob("*.png"):
        file.write_bytes(colour_of_16_bits(values))
    if read:
        assert float(every(load(root).train).max()) == pytest.approx(top // 256 / 255)
    else:
        with pytest.raises(DataError, match="16 bits per channel") as caught:
            load(root)
        assert f"at most {top // 256 * 256 + 255} of 65535" in caught.value.seen


def test_the_remedy_names_the_usual_range(tmp_path):
    with pytest.raises(DataError) as caught:
        load(deep_set(tmp_path, (RAMP * 4000).astype(np.uint16)))
    assert "--data.range 0 4095" in caught.value.do


def test_a_window_cuts_what_lies_outside(tmp_path):
    images = every(load(deep_set(tmp_path, (RAMP * 4000 - 1000).astype(np.int32), "tif"), range=(0, 1000)).train)
    assert float(images.min()) == 0
    assert float(images.max()) == 1


def test_an_unknown_range_is_no_damage_that_could_be_skipped(tmp_path):
    root = deep_set(tmp_path, RAMP.astype(np.float32), "tif")
    with pytest.raises(DataError, match="deeper than 8 bits"):
        load(root, skip_corrupt=True)
    assert load(root, skip_corrupt=True, range=(0, 1)).skipped == ()


def test_whole_sixteen_bits_need_no_range(tmp_path):
    images = every(load(deep_set(tmp_path, (RAMP * 65535).astype(np.uint16))).train)
    assert np.abs(images[0, 0].numpy() - RAMP).max() <= 0.51 / 255


def test_a_range_without_deep_images_is_refused(tree):
    with pytest.raises(DataError, match="there are none"):
        load(tree, range=(0, 4095))
    with pytest.raises(DataError, match="the smaller first"):
        load(tree, range=(5, 5))


# --- PNGs whose pixels end early


def png(rows, width, height, *, depth=8, colour=0, interlaced=0):
    """A PNG with these bytes as its unpacked rows."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("rows", range(8))
def test_a_png_with_some_of_its_rows_is_refused(tmp_path, rows):
    path = tmp_path / "0.png"
    path.write_bytes(png(b"".join(b"\0" + bytes([200] * 8) for _ in range(rows)), 8, 8))
    with pytest.raises(DataError, match=r"(?s)cannot be read.*(cut short|truncated)"):
        decode(path, Target(channels=1, height=8, width=8))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (8, 8), (33, 17)])
def test_a_whole_png_that_is_black_is_whole(tmp_path, mode, size):
    path = tmp_path / "0.png"
    Image.new(mode, size).save(path)
    with Image.open(path) as image:
        require_whole(image, path)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 5), (8, 8), (9, 17)])
def test_interlaced_pngs(tmp_path, width, height):
    sizes = [
        (len(range(left, width, across)), len(range(top, height, down)))
        for left, top, across, down in (
            (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2),
        )
    ]  # fmt: skip
    rows = b"".join((b"\0" + bytes(columns)) * count for columns, count in sizes if columns)
    path = tmp_path / "0.png"
    target = Target(channels=1, height=height, width=width)
    path.write_bytes(png(rows, width, height, interlaced=1))
    assert decode(path, target).shape == (1, height, width)
    path.write_bytes(png(rows[:-1], width, height, interlaced=1))
    with pytest.raises(DataError, match="cannot be read"):
        decode(path, target)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_no_image(tmp_path, bad):
    root = deep_set(tmp_path, np.full((8, 8), bad, np.float32), "tif")
    for asked in (None, (0, 1)):
        with pytest.raises(DataError, match="not finite"):
            every(load(root, range=asked).train)


def test_the_range_proposed_for_small_floats_is_theirs(tmp_path):
    with pytest.raises(DataError) as caught:
        load(deep_set(tmp_path, RAMP.astype(np.float32), "tif"))
    assert "such as --data.range 0 1;" in caught.value.do


# --- folders


def test_a_pipe_is_refused_and_not_waited_for(tree):
    os.mkfifo(tree / "train" / "ant" / "pipe.png")
    with pytest.raises(DataError, match=r"pipe\.png cannot be read") as caught:
        load(tree)
    assert "no regular file" in caught.value.seen
    assert len(load(tree, skip_corrupt=True).train) == 12


@pytest.mark.parametrize("target", ["..", "../bee", "../../test/../train"])
def test_a_link_to_another_class_is_refused(tree, target):
    (tree / "train" / "ant" / "other").symlink_to(target)
    with pytest.raises(DataError, match=r"train/ant/other leads to images of other classes"):
        load(tree)


def test_two_classes_in_one_folder_are_refused(tree):
    for split in ("train", "test"):
        (tree / split / "dog").symlink_to("bee")
    with pytest.raises(DataError, match=r"train/bee and .*train/dog are one folder"):
        load(tree)


def test_a_link_to_its_own_folder_multiplies_nothing(tree):
    expected = every(load(tree).train)
    (tree / "train" / "ant" / "latest").symlink_to(".")
    (tree / "train" / "bee" / "up").symlink_to("..")
    (tree / "train" / "bee" / "more").mkdir()
    (tree / "train" / "bee" / "more" / "again").symlink_to("../more")
    assert image_files(tree / "train" / "ant") == sorted((tree / "train" / "ant").glob("*.png"))
    (tree / "train" / "bee" / "up").unlink()
    assert torch.equal(every(load(tree).train), expected)


def test_hidden_folders_inside_a_class_do_not_count(tree, save):
    save(tree / "train" / "ant" / ".ipynb_checkpoints" / "0-checkpoint.png")
    assert len(load(tree).train) == 12


def test_jfif_files_count(tree):
    Image.new("RGB", (6, 6)).save(tree / "train" / "ant" / "9.jfif", "JPEG")
    assert len(load(tree).train) == 13


def test_accents_are_one_character(tree):
    name = "\u00e9t\u00e9"
    (tree / "train" / "bee").rename(tree / "train" / unicodedata.normalize("NFC", name))
    (tree / "test" / "bee").rename(tree / "test" / unicodedata.normalize("NFD", name))
    data = load(tree)
    assert data.classes == ("ant", "cat", name)
    assert data.train.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    (tree / "train" / unicodedata.normalize("NFD", name)).mkdir()
    with pytest.raises(DataError, match="have the same name"):
        load(tree)


@pytest.mark.parametrize("name", ["valid", "validation", "Test", "VAL", "testing"])
def test_another_name_of_the_test_folder(tree, name):
    (tree / "test").rename(tree / name)
    with pytest.raises(DataError) as caught:
        load(tree)
    assert f"Rename {tree / name} to {tree / 'test'}." in caught.value.do


@pytest.mark.parametrize("name", ["Train", "training", "TRAIN"])
def test_another_name_of_the_training_folder(tree, name):
    (tree / "train").rename(tree / name)
    with pytest.raises(DataError) as caught:
        load(tree)
    assert f"Rename {tree / name} to {tree / 'train'}." in caught.value.do


def test_a_flat_folder_of_classes_is_split(tree):
    whole = load(tree)
    with pytest.raises(DataError) as caught:
        load(tree / "train")
    assert "--data.split 0.2" in caught.value.do
    data, again = (load(tree / "train", split=0.25) for _ in range(2))
    assert (data.train.labels.tolist(), data.test.labels.tolist()) == ([0] * 3 + [1] * 3 + [2] * 3, [0, 1, 2])
    assert torch.equal(every(data.test), every(again.test))
    both = torch.cat([every(data.train), every(data.test)]).flatten(1)
    assert sorted(both.sum(1).tolist()) == sorted(every(whole.train).flatten(1).sum(1).tolist())
    assert data.name == "folder, 0.25 held out"
    assert "0.25 of every class are held out" in data.notes[0]
    (tree / "test").rename(tree.parent / "elsewhere")
    assert torch.equal(every(load(tree, split=0.25).test), every(data.test))


def test_a_split_that_cannot_be(tree):
    with pytest.raises(DataError, match="has test images of its own"):
        load(tree, split=0.2)
    with pytest.raises(DataError, match="too few images to hold out"):
        load(tree / "train", split=0.05)
    with pytest.raises(DataError, match="between 0 and 1"):
        load(tree / "train", split=1.0)


def test_exif_rotation_is_said_and_not_done(tree):
    exif = Image.Exif()
    exif[0x0112] = 6
    values = np.random.default_rng(0).integers(0, 256, (6, 6, 3), np.uint8)
    path = tree / "train" / "ant" / "0.png"
    Image.fromarray(values).save(path, exif=exif)
    data = load(tree)
    assert torch.equal((every(data.train)[0] * 255).byte().permute(1, 2, 0), torch.from_numpy(values))
    assert data.notes == (
        f"1 of 18 images carry an Exif rotation, such as {path}; their pixels are used as they are stored, as "
        "torchvision's ImageFolder does",
    )
