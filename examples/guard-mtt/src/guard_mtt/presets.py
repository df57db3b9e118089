"""Settings by data set: ``cifar10`` as MTT published them; ``digits`` and ``fast`` are sized for a CPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

EXPERTS: Final[Mapping[str, Any]] = {
    "network": "convnet3", "epochs": 50, "batch_size": 256, "lr": 0.01, "momentum": 0.0, "weight_decay": 0.0,
}  # fmt: skip
"""MTT's experts: plain SGD at a constant rate."""

CIFAR10: Final[Mapping[str, Any]] = {"teacher": EXPERTS, "student": {"protocol": "mtt"}}
FAST: Final[Mapping[str, Any]] = {
    # CPU-sized: few experts of few epochs, and a shorter way for the student.
    "teacher": {**EXPERTS, "epochs": 10, "batch_size": 64},
    "mtt": {"experts": 3, "iterations": 200, "syn_steps": 10, "latest_start": 5},
    "student": {"protocol": "mtt", "epochs": 300, "cutmix": 0.0},
}
DIGITS: Final[Mapping[str, Any]] = {
    # CPU-sized, for 8x8 pixels: convnet3 would normalise over 4 values in its third block. Digits must not be mirrored.
    "teacher": {**EXPERTS, "network": "small-resnet", "epochs": 6, "batch_size": 64, "lr": 0.05},
    "mtt": {
        "experts": 3, "iterations": 100, "syn_steps": 6, "expert_epochs": 1, "latest_start": 4, "lr_images": 100.0,
        "lr_student": 0.05, "augment": "none",
    },
    "student": {"protocol": "mtt", "epochs": 300},
}  # fmt: skip

PRESETS: Final[Mapping[str, Mapping[str, Any]]] = {"cifar10": CIFAR10, "fast": FAST, "digits": DIGITS}
