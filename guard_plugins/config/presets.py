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

# fast: 32-pixel colour images on a CPU in minutes. The students' recipe was chosen on held-out training images
# (examples/experiments), for soft labels: 400 epochs in place of 150 gave them 5 points at 1/255, CutMix in place of
# MixUp 0 to 3. Under hard labels CutMix costs random real images 7 points clean.
FAST: Final[Mapping[str, Any]] = {
    "data": {"train_per_class": 1000, "test_per_class": 100},
    "teacher": {"network": "small-resnet", "epochs": 10, "batch_size": 64},
    "student": {"epochs": 400, "cutmix": 1.0},
}

# Published settings. Teachers of CIFAR-100 and Tiny ImageNet: the squeeze commands of the SRe2L code (without Nesterov
# momentum there, and with five warm-up epochs on Tiny ImageNet), CIFAR-10 as CIFAR-100. Teachers of Imagenette and
# ImageNet: GUARD's run script. Students: SRe2L's commands. h is the paper's 3 in normalised space, per element and
# times the mean deviation: 3 / sqrt(3 side^2) * 0.2 (CIFAR's constants) or 0.226 (ImageNet's).
_CIFAR_TEACHER: Final[Mapping[str, Any]] = {
    "network": "resnet18", "epochs": 200, "batch_size": 128, "lr": 0.1, "weight_decay": 5e-4, "schedule": "cosine",
    "augment": "crop-flip",
}  # fmt: skip
CIFAR: Final[Mapping[str, Any]] = {
    "guard": {"h_rms": 2.8 / 255},
    "teacher": _CIFAR_TEACHER,
    "student": {"protocol": "sre2l-cifar"},
}
TINY_IMAGENET: Final[Mapping[str, Any]] = {
    "guard": {"h_rms": 1.56 / 255},
    "teacher": {
        "network": "resnet18", "epochs": 50, "batch_size": 256, "lr": 0.2, "weight_decay": 1e-4, "schedule": "cosine",
        "augment": "resized-crop-flip",
    },
    "student": {"protocol": "sre2l-tiny"},
}  # fmt: skip
IMAGENET: Final[Mapping[str, Any]] = {
    "data": {"image_size": 224},
    "guard": {"h_rms": 0.45 / 255},
    "teacher": {
        "network": "resnet18", "epochs": 50, "batch_size": 32, "lr": 0.025, "weight_decay": 1e-4, "schedule": "cosine",
        "augment": "resized-crop-flip", "crop_from": "original",
    },
    "student": {"protocol": "sre2l"},
}  # fmt: skip
IMAGENETTE: Final[Mapping[str, Any]] = {**IMAGENET, "student": {"protocol": "sre2l", "batch_size": 100}}

PRESETS: Final[Mapping[str, Mapping[str, Any]]] = {
    "digits": DIGITS, "fast": FAST, "cifar10": CIFAR, "cifar100": CIFAR, "tiny-imagenet": TINY_IMAGENET,
    "imagenette": IMAGENETTE, "imagenet": IMAGENET,
}  # fmt: skip
