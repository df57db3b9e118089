"""EDC's settings by data set: ``cifar10`` as published; ``digits`` and ``fast`` are sized for a CPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

CIFAR10: Final[Mapping[str, Any]] = {
    # The published command. Its teachers (SGD 0.05, batch 64, 5 epochs, a constant rate) are trained with our cosine.
    "teacher": {"network": "resnet18", "epochs": 5, "batch_size": 64, "lr": 0.05, "weight_decay": 0.0},
    "student": {"protocol": "edc"},
}
FAST: Final[Mapping[str, Any]] = {
    # CPU-sized: three small backbones, and fewer epochs of larger batches for students.
    "edc": {"backbones": ("convnet3-bn", "convnet3-w32")},
    "student": {"protocol": "edc", "epochs": 300, "batch_size": 50},
}
DIGITS: Final[Mapping[str, Any]] = {
    # CPU-sized, and for 8x8 pixels: digits must not be mirrored, and a crop of half an image still reads.
    "edc": {"backbones": ("convnet3-bn", "convnet2"), "flip": False, "crop_scale": 0.5},
    "student": {"protocol": "edc", "epochs": 300, "augment": "none"},
}

PRESETS: Final[Mapping[str, Mapping[str, Any]]] = {"cifar10": CIFAR10, "fast": FAST, "digits": DIGITS}
