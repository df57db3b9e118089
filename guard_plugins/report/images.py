"""Small pictures as data URIs: example images, differences, contact sheets."""

from __future__ import annotations

import base64
import io
from typing import Final

import numpy as np
from PIL import Image

from guard_plugins.artifacts.figures import Array

SIDE: Final = 96
"""Longest side of an example in a report, in pixels; larger images are reduced to it."""
STRIP_SIDE: Final = 64
"""Height to which the rows of a large contact sheet are reduced, in pixels."""
SHEET_BYTES: Final = 250_000
"""A contact sheet larger than this is stored as JPEG in a report, and scaled down if that is not enough."""


def data_uri(content: bytes, kind: str) -> str:
    """Return content as a data URI of media type ``image/<kind>``."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def image_uri(pixels: Array) -> str:
    """Return an image (C, H, W) with pixels in [0, 1] as a PNG."""
    whole = np.clip(np.nan_to_num(pixels.astype(np.float32)), 0, 1) * 255
    channels = whole.round().astype(np.uint8)
    picture = Image.fromarray(channels[0] if len(channels) == 1 else np.moveaxis(channels[:3], 0, -1))
    picture.thumbnail((SIDE, SIDE))
    return _encoded(picture, "PNG")


def difference_uri(one: Array, other: Array, *, scale: float) -> str:
    """Return ``other - one`` as a PNG: grey where nothing changed, white at ``+scale``, black at ``-scale``.

    Args:
        one: The first image, shape (C, H, W).
        other: The second image.
        scale: The change that is shown white or black.
    """
    change = (other.astype(np.float32) - one.astype(np.float32)) / (2 * scale)
    return image_uri(np.asarray(change + 0.5))


def strip_uris(png: bytes, rows: int) -> list[tuple[str, int]]:
    """Return the rows of a contact sheet, each with the number of images in it; empty if it cannot be cut.

    Args:
        png: The sheet, whose images are square, with a line of a pixel between them.
        rows: How many rows it has.
    """
    picture = _opened(png)
    if picture is None or rows < 1 or picture.height % rows:
        return []
    height = picture.height // rows
    boxes = [(0, row * height, picture.width, (row + 1) * height) for row in range(rows)]
    cut = [_encoded(picture.crop(box), "PNG") for box in boxes]
    if sum(map(len, cut)) > SHEET_BYTES * 4 // 3:
        smaller = min(1.0, STRIP_SIDE / height)
        size = (round(picture.width * smaller), round(height * smaller))
        cut = [_encoded(picture.crop(box).convert("RGB").resize(size), "JPEG") for box in boxes]
    return [(uri, max(1, round(picture.width / height))) for uri in cut]


def sheet_uri(png: bytes) -> str | None:
    """Return a contact sheet, re-encoded if it is large; None if it cannot be read."""
    picture = _opened(png)
    if picture is None:
        return None
    if len(png) <= SHEET_BYTES:
        return data_uri(png, "png")
    picture = picture.convert("RGB")
    uri = _encoded(picture, "JPEG")
    while len(uri) > SHEET_BYTES * 4 // 3 and max(picture.size) > 200:
        picture = picture.resize((picture.width * 3 // 4, picture.height * 3 // 4))
        uri = _encoded(picture, "JPEG")
    return uri


def _opened(png: bytes) -> Image.Image | None:
    try:
        picture: Image.Image = Image.open(io.BytesIO(png))
        picture.load()
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    return picture


def _encoded(picture: Image.Image, kind: str) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind, quality=88, optimize=True)
    return data_uri(buffer.getvalue(), kind.lower())
