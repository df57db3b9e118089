"""One image file to bytes, with a defined answer for every pixel format Pillow can meet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image, UnidentifiedImageError

from guard_plugins.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

EXTENSIONS: Final = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
"""Endings of the files that count as images, compared in lower case."""

_GREY: Final = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N"})
_SIXTEEN_BIT: Final = frozenset({"I", "I;16", "I;16L", "I;16B", "I;16N"})
# What Pillow raises for a file that is not an image, is cut short, breaks its format's rules, or claims absurd sizes.
_BROKEN: Final = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError, UnidentifiedImageError)


@dataclass(frozen=True, kw_only=True)
class Header:
    """What the first bytes of an image file say.

    Attributes:
        grey: Whether the file holds no colour.
        height: Rows in pixels.
        width: Columns in pixels.
    """

    grey: bool
    height: int
    width: int


@dataclass(frozen=True, kw_only=True)
class Target:
    """What every file of a split is turned into.

    Attributes:
        channels: 1 (luma of ITU-R 601) or 3 (RGB).
        height: Rows in pixels.
        width: Columns in pixels.
        crop: Side of the central square that is kept, as a fraction of the shorter side, and resized to
            ``height`` x ``width``; None leaves images of the right size alone and refuses all others.
    """

    channels: int
    height: int
    width: int
    crop: float | None = None


def read_header(path: Path) -> Header:
    """Return size and kind of an image without decoding its pixels.

    Raises:
        DataError: If the file is not an image.
    """
    try:
        with Image.open(path) as image:
            return Header(grey=image.mode in _GREY, height=image.height, width=image.width)
    except _BROKEN as error:
        raise broken_image(path, error) from error


def decode(path: Path, target: Target) -> NDArray[np.uint8]:
    """Return the pixels of an image file, uint8 of shape (C, H, W).

    Alpha is composited over white, palettes are looked up, 16-bit grey is scaled by 1/257 and 16-bit colour keeps its
    upper byte; of an animation the first frame counts; EXIF orientation is ignored, as in torchvision's ImageFolder.

    Args:
        path: The file.
        target: Channels and size to deliver.

    Raises:
        DataError: If the file is broken, floating-point, or of another size while no resizing was asked for.
    """
    try:
        with Image.open(path) as image:
            pixels = np.asarray(_fit(_convert(image, target.channels, path), target, path))
    except _BROKEN as error:
        raise broken_image(path, error) from error
    return pixels[None] if target.channels == 1 else pixels.transpose(2, 0, 1)


def broken_image(path: Path, error: BaseException) -> DataError:
    """Return the error for an image file that cannot be decoded."""
    return DataError(
        f"The image {path} cannot be read.",
        seen=f"{type(error).__name__}: {error}",
        do="Delete or replace the file (a cut-off download is the usual cause), then run again.",
    )


def _convert(image: Image.Image, channels: int, path: Path) -> Image.Image:
    mode = "L" if channels == 1 else "RGB"
    if image.mode == "F":
        raise DataError(
            f"The image {path} holds floating-point pixels, whose range is not defined.",
            seen=f"Pillow mode F, {image.width}x{image.height}",
            do="Convert it to 8 or 16 bits per channel.",
        )
    if image.mode in _SIXTEEN_BIT:
        values = np.asarray(image).astype(np.float64)
        image = Image.fromarray(np.rint(values / 257).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layered.size, "white"), layered)
    return image if image.mode == mode else image.convert(mode)


def _fit(image: Image.Image, target: Target, path: Path) -> Image.Image:
    if target.crop is None:
        if image.size != (target.width, target.height):
            raise DataError(
                f"The image {path} has another size than the rest.",
                seen=f"{image.width}x{image.height} pixels instead of {target.width}x{target.height}",
                do="Give one size for all images with --data.image-size.",
            )
        return image
    side = min(image.size) * target.crop
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, left + side, top + side)
    if image.size == (target.width, target.height) and target.crop == 1:
        return image
    return image.resize((target.width, target.height), Image.Resampling.BILINEAR, box=box)
