"""How many images pass through networks for a set and one student of it: counted from the settings, not measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

EPOCHS: Final = 10
"""Of a teacher of ``--preset fast``, over its 10,000 images."""
TRAINED: Final = EPOCHS * 10_000
HOOKED: Final = 2
"""Passes of an image at each step of a teacher under the hook: itself, and a step of h beside it."""


@dataclass(frozen=True)
class Passes:
    """What a row of an experiment costs, in images that pass forwards through a network.

    All pass back as well, but for real images to which others are matched, and images that a teacher labels.

    Attributes:
        experiment: Of the row.
        row: Its name.
        ipc: Stored images per class.
        label: What to call it.
        teachers: Images seen while teachers are trained.
        distillation: Images seen while the set is made.
        shown: Images that a student learns from, over all epochs; the teacher labels each.
    """

    experiment: str
    row: str
    ipc: int
    label: str
    teachers: int
    distillation: int
    shown: int

    @property
    def student(self) -> int:
        """Passes for one student and its labels."""
        return 2 * self.shown

    @property
    def total(self) -> int:
        """Passes for the set and one student."""
        return self.teachers + self.distillation + self.student


_ONE: Final = HOOKED * TRAINED
"""One teacher under the hook."""
ROWS: Final = (
    Passes("sre2l", "no hook", 10, "SRe2L, no hook", TRAINED, 500 * 100, 400 * 100),
    Passes("sre2l", "hook", 10, "SRe2L, hook", _ONE, 500 * 100, 400 * 100),
    Passes("sre2l", "hook, every 4", 10, "SRe2L, hook on every fourth step", TRAINED * 5 // 4, 500 * 100, 400 * 100),
    Passes("images-or-labels", "random, hook", 10, "random real", _ONE, 0, 400 * 100),
    Passes("longer-students", "random", 10, "random real, 1,000 epochs", _ONE, 0, 1000 * 100),
    Passes("one-image-per-class", "hook", 1, "SRe2L, hook", _ONE, 500 * 10, 400 * 10),
    Passes("one-image", "random real images", 1, "random real", _ONE, 0, 400 * 10),
    Passes("one-image", "random real images, 2 x 2", 1, "four random real in one", _ONE, 0, 400 * 40),
    # A second network, and 800 steps of 64 real images per class beside those that are moved.
    Passes("one-image", "matched, 2 x 2", 1, "four matched in one", 2 * _ONE, 800 * 10 * (64 + 4), 400 * 40),
    Passes("matched-longer", "matched, whole", 1, "matched, 1,600 epochs", 2 * _ONE, 800 * 10 * (64 + 1), 1600 * 10),
    Passes("equal-steps", "1 per class, whole, 1,600 epochs", 1, "random real, 1,600 epochs", _ONE, 0, 1600 * 10),
    Passes("equal-steps", "1 per class, whole, 6,400 epochs", 1, "random real, 6,400 epochs", _ONE, 0, 6400 * 10),
    Passes("equal-steps", "1 per class, four in one, 1,600 epochs", 1, "four random, 1,600 epochs", _ONE, 0, 1600 * 40),
    Passes(
        "matched-longer", "matched, four in one", 1, "four matched, 1,600 epochs", 2 * _ONE, 800 * 10 * 68, 1600 * 40
    ),
)
