"""Which numbers are black and white in images deeper than 8 bits, whose files do not say it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from guard_plugins.data.images.decode import FULL_RANGE
from guard_plugins.data.images.splits import read_all_extremes
from guard_plugins.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from guard_plugins.data.images.decode import Header

LEAST_OF_16_BITS: Final = 16384
"""Images whose brightest pixel is below this do not use 16 bits: 10, 12 or 14 bits would come out nearly black."""

_USUAL: Final = (255, 1023, 4095, 16383, 65535)


def levels_of(
    paths: Sequence[Path], headers: Sequence[Header], asked: tuple[float, float] | None
) -> tuple[float, float] | None:  # fmt: skip
    """Return the numbers that become black and white in the deep images among some files; None where there are none.

    Args:
        paths: The files.
        headers: What each says of itself.
        asked: What the user says they are, or None.

    Raises:
        DataError: If nobody says it and the images are not plainly of 16 bits; or somebody does and no image is deep;
            or images of 16-bit colour use few of their bits.
    """
    _refuse_dim_colour([path for path, header in zip(paths, headers, strict=True) if header.deep_colour])
    deep = [path for path, header in zip(paths, headers, strict=True) if header.deep]
    if not deep:
        if asked is not None:
            raise DataError(
                "--data.range is for images deeper than 8 bits, and there are none.",
                seen=f"{len(paths)} images of 8 bits, such as {paths[0]}", do="Leave it out.",
            )  # fmt: skip
        return None
    if asked is not None:
        return asked
    low, high = read_all_extremes(deep)
    if low >= FULL_RANGE[0] and LEAST_OF_16_BITS <= high <= FULL_RANGE[1] and low.is_integer() and high.is_integer():
        return FULL_RANGE
    if not (math.isfinite(low) and math.isfinite(high)):
        raise DataError("Some images hold numbers that are not finite.", do="Look for infinity and NaN in them.")
    white = next((top for top in (1, *_USUAL) if low >= 0 and high <= top), high)
    raise DataError(
        "Some images are deeper than 8 bits, and which numbers are black and white is not known.",
        seen=f"numbers from {low:g} to {high:g} in {len(deep)} files, such as {deep[0]}",
        do=f"Pass --data.range LOW HIGH, such as --data.range {min(low, 0):g} {white:g}; what lies outside is cut.",
    )


def _refuse_dim_colour(paths: Sequence[Path]) -> None:
    """Refuse colour of 10, 12 or 14 bits in files of 16, whose upper byte alone is decoded."""
    if not paths:
        return
    _, high = read_all_extremes(paths)
    if high * 256 + 255 < LEAST_OF_16_BITS:
        raise DataError(
            "Some colour images have 16 bits per channel and leave the upper ones empty; they would be nearly black.",
            seen=f"at most {high * 256 + 255:g} of 65535 in {len(paths)} files, such as {paths[0]}",
            do="Scale them and save them with 8 bits per channel.",
        )
