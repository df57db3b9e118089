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


def sheet_uri(png: bytes) -> str | None:
    """Return a contact sheet, re-encoded if it is large; None if it cannot be read."""
    try:
        picture: Image.Image = Image.open(io.BytesIO(png))
        picture.load()
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    if len(png) <= SHEET_BYTES:
        return data_uri(png, "png")
    picture = picture.convert("RGB")
    uri = _encoded(picture, "JPEG")
    while len(uri) > SHEET_BYTES * 4 // 3 and max(picture.size) > 200:
        picture = picture.resize((picture.width * 3 // 4, picture.height * 3 // 4))
        uri = _encoded(picture, "JPEG")
    return uri


def _encoded(picture: Image.Image, kind: str) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind, quality=88, optimize=True)
    return data_uri(buffer.getvalue(), kind.lower())
