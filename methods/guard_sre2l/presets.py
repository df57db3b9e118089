"""SRe2L's settings by data set.

Sources: the commands of the published code (SRe2L/recover for ImageNet-1k, and its folders for Tiny ImageNet and
CIFAR-100); there is no official command for CIFAR-10 and Imagenette. Teachers and students are the host's presets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

DIGITS: Final[Mapping[str, Any]] = {
    # No views: an 8x8 digit fills its frame, and rolled or flipped it is another shape. Of roll 0 and 1, 0 gave
    # hard-label students of 90 against 57 %.
    "recover": {"iterations": 500, "lr": 0.1, "jitter": 0, "flip": False, "crop_scale": 1.0},
}
FAST: Final[Mapping[str, Any]] = {
    # lr and r_bn go together as in the Tiny ImageNet command. With r_bn 0.01 the images of a class become one image,
    # and students of CIFAR-10 (10 per class) reach 26.7 in place of 35.3 % (held-out images, one seed).
    "recover": {"iterations": 500, "lr": 0.1, "r_bn": 1.0, "jitter": 4, "crop_scale": 1.0},
}
CIFAR100: Final[Mapping[str, Any]] = {
    # CIFAR-100 command: no crop and no flip, shift by up to 4 pixels, 1000 steps.
    "recover": {"iterations": 1000, "lr": 0.25, "r_bn": 0.01, "jitter": 4, "flip": False, "crop_scale": 1.0},
}
CIFAR10: Final[Mapping[str, Any]] = CIFAR100
"""As CIFAR-100, which is what independent benchmarks run on CIFAR-10 (with batches of 10; ours mix copies)."""

TINY_IMAGENET: Final[Mapping[str, Any]] = {
    # Tiny ImageNet command.
    "recover": {"iterations": 4000, "lr": 0.1, "r_bn": 1.0, "jitter": 4},
}
IMAGENET: Final[Mapping[str, Any]] = {
    # ImageNet-1k command; also the defaults.
    "recover": {"iterations": 4000, "lr": 0.25, "r_bn": 0.01, "jitter": 32},
}
IMAGENETTE: Final[Mapping[str, Any]] = {
    # GUARD's run script (arXiv 2403.10045): ImageNet's constants, 2000 steps.
    "recover": {"iterations": 2000, "lr": 0.25, "r_bn": 0.01, "jitter": 32},
}

PRESETS: Final[Mapping[str, Mapping[str, Any]]] = {
    "digits": DIGITS, "fast": FAST, "cifar10": CIFAR10, "cifar100": CIFAR100, "tiny-imagenet": TINY_IMAGENET,
    "imagenette": IMAGENETTE, "imagenet": IMAGENET,
}  # fmt: skip
