"""One image file to bytes, with a defined answer for every pixel format Pillow can meet."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image, UnidentifiedImageError

from guard_plugins.data.images.whole import require_whole
from guard_plugins.errors import DataError
from guard_plugins.files import regular

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from guard_plugins.data.images.target import Box, Target

EXTENSIONS: Final = frozenset(
    {".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
)
"""Endings of the files that count as images, compared in lower case."""

FULL_RANGE: Final = (0.0, 65535.0)
"""What becomes black and white in images deeper than 8 bits, unless ``DataRequest.range`` says otherwise."""

_KINDS: Final = ("JPEG", "PNG", "GIF", "BMP", "DIB", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF", "ICO", "TGA")
"""What a file may be, whatever its name. Pillow knows more kinds: EPS goes to Ghostscript, which runs what is in it."""

_DEEP: Final = frozenset({"I", "I;16", "I;16L", "I;16B", "I;16N", "F"})
_GREY: Final = frozenset({"1", "L", "LA", "La"}) | _DEEP
_ORIENTATION: Final = 0x0112
# What Pillow raises for a file that is not an image, is cut short, breaks its format's rules, or claims absurd sizes.
_BROKEN: Final = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError, UnidentifiedImageError)


@dataclass(frozen=True, kw_only=True)
class Header:
    """What the first bytes of an image file say.

    Attributes:
        grey: Whether the file holds no colour.
        height: Rows in pixels.
        width: Columns in pixels.
        deep: Whether a pixel is a number of more than 8 bits.
        deep_colour: Whether the file has more than 8 bits a channel of which decoding keeps the upper 8.
        rotated: Whether its Exif data ask viewers to turn or mirror it, which is not done here.
        jpeg: Whether it is a JPEG, which can be decoded at 1/2, 1/4 or 1/8 of its size.
    """

    grey: bool
    height: int
    width: int
    deep: bool = False
    deep_colour: bool = False
    rotated: bool = False
    jpeg: bool = False


def read_header(source: Path | bytes, name: str = "") -> Header:
    """Return size and kind of an image without decoding its pixels.

    Args:
        source: The file, or its content.
        name: What messages call the image; the path where there is one.

    Raises:
        DataError: If it is not an image.
    """
    try:
        with opened(source) as image:
            return Header(
                grey=image.mode in _GREY, height=image.height, width=image.width, deep=image.mode in _DEEP,
                deep_colour=_deep_colour(image), rotated=_rotated(image), jpeg=image.format == "JPEG",
            )  # fmt: skip
    except _BROKEN as error:
        raise broken_image(name or str(source), error) from error


def read_extremes(path: Path) -> tuple[float, float]:
    """Return the smallest and the largest number an image holds, that of an alpha channel apart.

    Raises:
        DataError: If the file is broken.
    """
    try:
        with opened(path) as image:
            values = np.asarray(image)[..., :3] if image.mode == "RGBA" else np.asarray(image)
            return float(values.min()), float(values.max())
    except _BROKEN as error:
        raise broken_image(str(path), error) from error


def decode(
    source: Path | bytes, target: Target, name: str = "", *, cut: Callable[[int, int], Box] | None = None
) -> NDArray[np.uint8]:
    """Return the pixels of an image, uint8 of shape (C, H, W).

    Alpha is composited over white, palettes are looked up, grey deeper than 8 bits is scaled so that ``target.levels``
    become 0 and 255, and 16-bit colour keeps its upper byte; of an animation the first frame counts; EXIF orientation
    is ignored, as in torchvision's ImageFolder.

    Args:
        source: The file, or its content.
        target: Channels, size and levels to deliver.
        name: What messages call the image; the path where there is one.
        cut: From the width and height of the image to the part of it that becomes the result; None for what the target
            says.

    Raises:
        DataError: If the image is broken, its range is not known, or it has another size while no resizing was asked
            for.
    """
    name = name or str(source)
    try:
        with opened(source) as image:
            size = image.size
            box = target.centre(*size) if cut is None else cut(*size)
            scale = target.scale_of(box) if box is not None and image.format == "JPEG" else 1
            if scale > 1:
                image.draft(None, (size[0] // scale, size[1] // scale))
            require_whole(image, source)
            whole = _convert(image, target, name)
            if cut is not None and box is not None:
                whole, box = _cut_out(whole, box, scale)
            pixels = np.asarray(_fit(whole, target, name, box, scale))
    except _BROKEN as error:
        raise broken_image(name, error) from error
    return pixels[None] if target.channels == 1 else pixels.transpose(2, 0, 1)


def broken_image(name: str, error: BaseException) -> DataError:
    """Return the error for an image that cannot be decoded."""
    return DataError(
        f"The image {name} cannot be read.",
        seen=f"{type(error).__name__}: {error}",
        do="Delete or replace the file (a cut-off download is the usual cause), then run again. --data.skip-corrupt "
        "leaves such files of a folder out, and counts them.",
    )


def opened(source: Path | bytes) -> Image.Image:
    """Return an image file, opened; its pixels are not decoded yet.

    Args:
        source: The file, or its content.

    Raises:
        OSError: If it is none of the kinds that are read; and whatever else Pillow says of a broken file.
    """
    return Image.open(io.BytesIO(source) if isinstance(source, bytes) else regular(source), formats=_formats())


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _KINDS if name in Image.OPEN)


def _deep_colour(image: Image.Image) -> bool:
    # Pillow names the layout of the file's pixels in the last field of a tile, such as "RGB;16B".
    return image.mode not in _DEEP and any(";16" in str(tile[-1]) for tile in getattr(image, "tile", ()))


def _rotated(image: Image.Image) -> bool:
    if "exif" not in image.info:  # a PNG without it would be decoded to look for it at its end
        return False
    try:
        return image.getexif().get(_ORIENTATION, 1) not in (0, 1)
    except Exception:  # damaged Exif data say nothing, and the pixels may be whole
        return False


def _convert(image: Image.Image, target: Target, name: str) -> Image.Image:
    mode = "L" if target.channels == 1 else "RGB"
    if image.mode in _DEEP:
        image = _eight_bits(np.asarray(image), image.mode, target.levels, name)
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layered.size, "white"), layered)
    return image if image.mode == mode else image.convert(mode)


def _eight_bits(
    values: NDArray[np.generic], mode: str, levels: tuple[float, float] | None, name: str
) -> Image.Image:  # fmt: skip
    """Return grey of 8 bits from deeper numbers; what leaves the levels is cut."""
    numbers = values.astype(np.float64)
    if levels is None and (mode == "F" or numbers.min() < 0 or numbers.max() > FULL_RANGE[1]):
        kind = "floating-point pixels" if mode == "F" else "numbers outside of 16 bits"
        raise DataError(
            f"The image {name} holds {kind}, and their range is not known.",
            seen=f"numbers from {numbers.min():g} to {numbers.max():g}",
            do="Pass --data.range LOW HIGH, the numbers that are black and white. Convert it to 8 or 16 bits per "
            "channel where that option does not apply.",
        )
    if not np.isfinite(numbers).all():
        raise DataError(f"The image {name} holds numbers that are not finite.", do="Replace it.")
    low, high = levels or FULL_RANGE
    return Image.fromarray(np.rint((numbers - low) * 255 / (high - low)).clip(0, 255).astype(np.uint8))


def _cut_out(image: Image.Image, box: Box, scale: int) -> tuple[Image.Image, Box]:
    """Return the smallest part of an image that holds a box, and the box in it: resizing looks beyond a box's edges."""
    left, top = int(box[0] // scale), int(box[1] // scale)
    right, bottom = (min(int(-(-edge // scale)), size) for edge, size in zip(box[2:], image.size, strict=True))
    x, y = left * scale, top * scale
    return image.crop((left, top, right, bottom)), (box[0] - x, box[1] - y, box[2] - x, box[3] - y)


def _fit(image: Image.Image, target: Target, name: str, box: Box | None, scale: int) -> Image.Image:
    if box is None:
        if image.size != (target.width, target.height):
            raise DataError(
                f"The image {name} has another size than the rest.",
                seen=f"{image.width}x{image.height} pixels instead of {target.width}x{target.height}",
                do="Give one size for all images with --data.image-size.",
            )
        return image
    # The box is in pixels of the whole image: a reduced one is rounded up to a whole number of pixels.
    left, top, right, bottom = (edge / scale for edge in box)
    if image.size == (target.width, target.height) and (left, top, right, bottom) == (0, 0, *image.size):
        return image
    return image.resize((target.width, target.height), Image.Resampling.BILINEAR, box=(left, top, right, bottom))
