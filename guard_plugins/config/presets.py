"""Named settings for a data set, shared by all methods; a method may lay its own of the same name on top."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

# digits: 8x8 images; h_rms 16/255 is h = 1.3 in normalised space (h = h_rms sqrt(64) / sigma, sigma = 0.376).
DIGITS: Final[Mapping[str, Any]] = {
    "guard": {"h_rms": 16 / 255},
    "teacher": {"network": "small-resnet", "epochs": 10, "batch_size": 64, "augment": "none"},
    "student": {"epochs": 150, "augment": "none"},
}

# fast: 32-pixel colour images on a CPU in minutes.
FAST: Final[Mapping[str, Any]] = {
    "data": {"train_per_class": 1000, "test_per_class": 100},
    "teacher": {"network": "small-resnet", "epochs": 10, "batch_size": 64},
    "student": {"epochs": 150},
}

PRESETS: Final[Mapping[str, Mapping[str, Any]]] = {"digits": DIGITS, "fast": FAST}


def merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings in which later layers win over earlier ones, key by key."""
    result: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            old = result.get(key)
            both = isinstance(old, Mapping) and isinstance(value, Mapping)
            result[key] = merged(old, value) if both else value  # type: ignore[arg-type]
    return result
