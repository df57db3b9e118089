"""What the images of a split are turned into, and which part of a file that takes."""

from __future__ import annotations

from dataclasses import dataclass

Box = tuple[float, float, float, float]
"""Left, top, right and bottom of a part of an image, in pixels of the whole image."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """What every file of a split is turned into.

    Attributes:
        channels: 1 (luma of ITU-R 601) or 3 (RGB).
        height: Rows in pixels.
        width: Columns in pixels.
        crop: Side of the central square that is kept, as a fraction of the shorter side, and resized to
            ``height`` x ``width``; None leaves images of the right size alone and refuses all others.
        levels: Numbers that become black and white in images deeper than 8 bits; None means 0 and 65535.
        reduced: Whether JPEGs of at least twice the size needed are decoded at the smallest scale that is large enough.
    """

    channels: int
    height: int
    width: int
    crop: float | None = None
    levels: tuple[float, float] | None = None
    reduced: bool = False

    def scale(self, width: int, height: int) -> int:
        """Return by which of 1, 2, 4 and 8 a JPEG of this size may be divided and still be large enough."""
        box = self.centre(width, height)
        return 1 if box is None else self.scale_of(box)

    def scale_of(self, box: Box) -> int:
        """Return by which of 1, 2, 4 and 8 a JPEG may be divided and a box of it still be large enough."""
        if not self.reduced:
            return 1
        spare = min(box[2] - box[0], box[3] - box[1]) / max(self.width, self.height)
        return next(scale for scale in (8, 4, 2, 1) if spare >= scale or scale == 1)

    def centre(self, width: int, height: int) -> Box | None:
        """Return the central square of an image of this size, or None where images are left alone."""
        if self.crop is None:
            return None
        side = min(width, height) * self.crop
        left, top = (width - side) / 2, (height - side) / 2
        return left, top, left + side, top + side
