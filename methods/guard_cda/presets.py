"""CDA's settings by data set.

Sources: the commands of the published code for ImageNet-1k and Tiny ImageNet; for CIFAR the CIFAR script of GUARD
(arXiv 2403.10045), the only published run of CDA there; Imagenette as ImageNet-1k with GUARD's 2000 steps. The
curriculum is the published one everywhere (cosine, milestone 1), which is the default.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

DIGITS: Final[Mapping[str, Any]] = {
    # An 8x8 digit still reads at three quarters of its area; no flips and no shifts, as for SRe2L.
    "recover": {"iterations": 500, "lr": 0.1, "jitter": 0, "flip": False, "crop_scale": 0.75},
}
FAST: Final[Mapping[str, Any]] = {
    # The curriculum ends at 0.4, as in GUARD's CIFAR script: smaller crops of 32 pixels show little.
    # lr and r_bn as in SRe2L's preset of this name.
    "recover": {"iterations": 500, "lr": 0.1, "r_bn": 1.0, "jitter": 4, "crop_scale": 0.4},
}
CIFAR: Final[Mapping[str, Any]] = {
    # GUARD's CIFAR script: alpha 0.4, milestone 1, otherwise SRe2L's CIFAR-100 command.
    "recover": {"iterations": 1000, "lr": 0.25, "r_bn": 0.01, "jitter": 4, "flip": True, "crop_scale": 0.4},
}
TINY_IMAGENET: Final[Mapping[str, Any]] = {
    # Tiny ImageNet command.
    "recover": {"iterations": 4000, "lr": 0.4, "r_bn": 0.05, "jitter": 4},
}
IMAGENET: Final[Mapping[str, Any]] = {
    # ImageNet-1k command.
    "recover": {"iterations": 4000, "lr": 0.25, "r_bn": 0.01, "jitter": 32},
    # The paper trains its students in batches of 128, eight times smaller than SRe2L's.
    "student": {"batch_size": 128},
}
IMAGENETTE: Final[Mapping[str, Any]] = {
    "recover": {"iterations": 2000, "lr": 0.25, "r_bn": 0.01, "jitter": 32},
}

PRESETS: Final[Mapping[str, Mapping[str, Any]]] = {
    "digits": DIGITS, "fast": FAST, "cifar10": CIFAR, "cifar100": CIFAR, "tiny-imagenet": TINY_IMAGENET,
    "imagenette": IMAGENETTE, "imagenet": IMAGENET,
}  # fmt: skip
