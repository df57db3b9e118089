"""Whether a PNG holds all its rows: Pillow reads one whose pixels end early as black rows, without a word."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL import Image

_SIGNATURE: Final = 8
_SAMPLES: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Numbers per pixel, by the colour type of the header."""
_PASSES: Final = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""First column, first row, and steps of the seven passes of an interlaced file."""
_CHUNK: Final = 2**16


def require_whole(image: Image.Image, source: Path | bytes) -> None:
    """Load an image, and refuse a PNG whose pixels end before its last row.

    Rows are filled in order, so only a file whose last row is all zero, or an interlaced one, is looked at again.

    Args:
        image: The image, opened.
        source: Its file, or the file's content.

    Raises:
        OSError: If pixels are missing.
    """
    image.load()
    if image.format != "PNG":
        return
    last_row = np.asarray(image.crop((0, image.height - 1, image.width, image.height)))
    if last_row.any() and not image.info.get("interlace"):
        return
    content = source if isinstance(source, bytes) else source.read_bytes()
    expected, found = _expected_bytes(content), _found_bytes(content)
    if found < expected:
        raise OSError(f"the PNG is cut short: {found} of {expected} bytes of pixels are there")


def _expected_bytes(content: bytes) -> int:
    """Return how many bytes the rows take when unpacked, each with the byte of its filter."""
    width, height, depth, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", content, _SIGNATURE + 8)
    bits = depth * _SAMPLES.get(colour, 1)
    total = 0
    for left, top, across, down in _PASSES if interlaced else ((0, 0, 1, 1),):
        columns, rows = -((left - width) // across), -((top - height) // down)
        total += rows * (1 + -(-columns * bits // 8)) if columns > 0 and rows > 0 else 0
    return total


def _found_bytes(content: bytes) -> int:
    """Return how many bytes the pixels' stream really unpacks to, without keeping them."""
    stream, total = zlib.decompressobj(), 0
    try:
        for part in _pixel_chunks(content):
            total += len(stream.decompress(part, _CHUNK))
            while stream.unconsumed_tail:
                total += len(stream.decompress(stream.unconsumed_tail, _CHUNK))
    except zlib.error:
        return total
    return total


def _pixel_chunks(content: bytes) -> Iterator[bytes]:
    position = _SIGNATURE
    while position + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        if kind == b"IDAT":
            yield content[position + 8 : position + 8 + length]
        position += 12 + length
