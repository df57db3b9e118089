"""The settings of the method by data set; those that measured best carry the month of the measurement."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from guard_plugins.config.presets import PRESETS as SHARED

# Digits must not be flipped, nor have they colours; at 8 pixels fewer steps are enough.
DIGITS: Final[Mapping[str, Any]] = {"features": {"steps": 200, "strategy": "crop_scale_rotate"}}
# Small colour images on a CPU, one stored image per class: chosen on held-out images of CIFAR-10
# (examples/experiments/RESULTS.md, "1 image per class").
ONE_IMAGE: Final[Mapping[str, Any]] = {**SHARED["fast"], "ipc": 1, "features": {"formation": 2}}
# The same with four times the epochs of the students ("Matched images, or longer training?").
LONGER: Final[Mapping[str, Any]] = {**ONE_IMAGE, "student": {**SHARED["fast"]["student"], "epochs": 1600}}

PRESETS: Final[Mapping[str, Mapping[str, Any]]] = {
    "digits": DIGITS, "fast-ipc1-2026-11": ONE_IMAGE, "fast-ipc1-2026-12": LONGER,
}  # fmt: skip
