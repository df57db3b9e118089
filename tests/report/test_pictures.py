"""Pictures: what a reader sees is what was stored."""

from __future__ import annotations

import base64
import io
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image

from guard_plugins.report import plots
from guard_plugins.report.images import SHEET_BYTES, difference_uri, image_uri, sheet_uri, strip_uris


def decoded(uri: str) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))


def svg(uri: str) -> str:
    text = base64.b64decode(uri.removeprefix("data:image/svg+xml;base64,")).decode()
    ElementTree.fromstring(text)
    return text


def test_images_are_stored_exactly() -> None:
    pixels = np.random.default_rng(0).random((3, 8, 8)).astype(np.float32)
    assert np.array_equal(decoded(image_uri(pixels)), np.moveaxis((pixels * 255).round().astype(np.uint8), 0, -1))
    grey = pixels[:1]
    assert np.array_equal(decoded(image_uri(grey)), (grey[0] * 255).round().astype(np.uint8))


def test_large_images_are_reduced() -> None:
    assert decoded(image_uri(np.zeros((3, 224, 112), np.float32))).shape == (96, 48, 3)


def test_differences_are_grey_where_nothing_changed() -> None:
    one = np.full((1, 1, 3), 0.5)
    other = one + np.array([[[0.0, 8 / 255, -8 / 255]]])
    assert decoded(difference_uri(one, other, scale=8 / 255)).tolist() == [[128, 255, 0]]


def test_a_large_contact_sheet_is_made_small_and_a_broken_one_left_out() -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (1200, 1200, 3), np.uint8)).save(buffer, "PNG")
    assert len(buffer.getvalue()) > SHEET_BYTES
    uri = sheet_uri(buffer.getvalue())
    assert uri is not None
    assert uri.startswith("data:image/jpeg")
    assert len(uri) < 1.4 * SHEET_BYTES
    assert sheet_uri(b"nonsense") is None


def test_a_contact_sheet_is_cut_into_its_rows() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    strips = strip_uris(buffer.getvalue(), 2)
    assert [count for _, count in strips] == [3, 3]  # 30 pixels wide, rows of 10
    assert np.array_equal(np.concatenate([decoded(uri) for uri, _ in strips]), pixels)
    assert strip_uris(buffer.getvalue(), 3) == []  # no three rows of whole pixels
    assert strip_uris(b"nonsense", 2) == []


def test_the_rows_of_a_large_contact_sheet_are_made_small() -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (1200, 1200, 3), np.uint8)).save(buffer, "PNG")
    strips = strip_uris(buffer.getvalue(), 10)
    assert sum(len(uri) for uri, _ in strips) < 1.4 * SHEET_BYTES * 2
    assert {decoded(uri).shape for uri, _ in strips} == {(64, 640, 3)}


LABEL = "a <b> & $c$_{d}"


@pytest.mark.parametrize(
    "uri",
    [
        plots.curves([plots.Line([0, 1, 4], [90, 80, 10], 0), plots.Line([0, 1, 4], [95, 70, 0], 9, dashed=True)]),
        plots.histograms([(LABEL, np.array([1e-6, 1.0, 5.0]), 0)], label="x", signed=False),
        plots.histograms([(LABEL, np.array([-3.0, 0.0, 200.0]), 1), ("b", np.zeros(3), 2)], label="x", signed=True),
        plots.slices([(LABEL, np.ones((2, 21, 21))), ("b", np.zeros((2, 21, 21)))], reach="r"),
        plots.bars([(LABEL, [("teacher", 3.0), ("students", 4.0)]), ("b", [("teacher", 1.0)])]),
    ],
    ids=["curves", "histogram", "signed", "slices", "bars"],
)
def test_drawings_are_valid_svg_that_follow_the_theme(uri: str) -> None:
    text = svg(uri)
    assert "currentColor" in text
    assert "prefers-color-scheme:dark" in text
    assert "#010203" not in text
    assert "<script" not in text


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_axes_under_one_another_fill_the_picture_and_keep_room_for_their_texts(rows: int) -> None:
    values = np.array([-3e6, -40.0, 0.0, 40.0, 3e6])
    text = svg(plots.histograms([(LABEL, values, 0)] * rows, label="x", signed=True))
    width, height = (float(size) for size in re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text)[0])
    at = [(float(x), float(y)) for x, y in re.findall(r'<text [^>]*x="([-\d.]+)" y="([-\d.]+)"', text)]
    assert len(at) >= rows + 6
    assert all(10 < x < width - 10 and 5 < y < height - 5 for x, y in at)
    titles = sorted(y for _, y in at)[:rows]
    assert titles[0] < 14
    assert min(np.diff(titles), default=50.0) > 40  # a title of 9 points and bars below it


def test_labels_are_shown_as_they_are() -> None:
    assert "a &lt;b&gt; &amp; $c$_{d}: median 1" in svg(
        plots.histograms([(LABEL, np.ones(3), 0)], label="x", signed=False)
    )


def test_a_long_name_leaves_room_for_the_median() -> None:
    text = svg(plots.histograms([("n" * 41, np.ones(3), 0), ("n" * 40, np.ones(3), 1)], label="x", signed=False))
    assert f">{'n' * 39}…: median 1<" in text
    assert f">{'n' * 40}: median 1<" in text


def test_the_same_numbers_give_the_same_drawing() -> None:
    lines = [plots.Line([0, 1, 4], [90, 80, 10], 0)]
    assert plots.curves(lines) == plots.curves(lines)
