"""DC's settings by data set.

Sources: the commands of the published code, which are the same for every data set, but for a deeper network on Tiny
ImageNet. Imagenette and ImageNet have no published settings; ours use 64 pixels and Tiny ImageNet's network. The loops
follow from the number of images per class.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

STUDENT: Final[Mapping[str, Any]] = {"network": "convnet3", "protocol": "dc"}
DEFAULTS: Final[Mapping[str, Any]] = {"student": STUDENT}
"""Students as published: the matched architecture, trained by SGD on hard labels."""

DIGITS: Final[Mapping[str, Any]] = {
    # Batch norm: at 8 pixels instance norm would normalise over 4 values in the third block, and nothing is learned.
    # With one image step per network and three times the rate, a minute on one core is enough.
    "match": {
        "network": "convnet3-bn", "iterations": 60, "outer": 1, "inner": 1, "real_batch": 64, "lr_images": 0.3,
    },
    "student": {"network": "convnet3-bn"},
}  # fmt: skip
FAST: Final[Mapping[str, Any]] = {
    # A tenth of the published networks and a quarter of the real batch. Students as published, without mixing, for half
    # the epochs.
    "match": {"iterations": 100, "real_batch": 64},
    "student": {"augment": "none", "epochs": 150, "cutmix": 0.0},
}
CIFAR: Final[Mapping[str, Any]] = {
    "student": STUDENT,
}
TINY_IMAGENET: Final[Mapping[str, Any]] = {
    # One block more for 64 pixels (ConvNet-4, as in later benchmarks of DC).
    "match": {"network": "convnet4"},
    "student": {**STUDENT, "network": "convnet4"},
}
IMAGENETTE: Final[Mapping[str, Any]] = {
    "data": {"image_size": 64},
    "match": {"network": "convnet4"},
    "student": {**STUDENT, "network": "convnet4"},
}

PRESETS: Final[Mapping[str, Mapping[str, Any]]] = {
    "digits": DIGITS, "fast": FAST, "cifar10": CIFAR, "cifar100": CIFAR, "tiny-imagenet": TINY_IMAGENET,
    "imagenette": IMAGENETTE, "imagenet": IMAGENETTE,
}  # fmt: skip
