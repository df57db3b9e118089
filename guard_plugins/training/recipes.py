"""How students are trained: named recipes (``--student.protocol``), each from a source."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

from guard_plugins.config.schema import Augment, StudentConfig

Optimizer = Literal["adamw", "sgd"]
Schedule = Literal["one-cycle", "cosine", "warm-up-cosine", "half-cosine", "step"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides how a student is trained.

    Attributes:
        epochs: Passes over the distilled images.
        batch_size: Images per step.
        optimizer: AdamW, or SGD with momentum 0.9.
        lr: Peak or initial learning rate.
        weight_decay: Weight decay.
        schedule: Learning-rate schedule, per step.
        temperature: T of the soft labels.
        squared: Whether the soft-label loss is multiplied by T².
        mixup: Alpha of MixUp, 0 for none.
        cutmix: Alpha of CutMix, 0 for none.
        augment: Augmentation before mixing.
    """

    epochs: int
    batch_size: int
    optimizer: Optimizer
    lr: float
    weight_decay: float
    schedule: Schedule
    temperature: float = 20.0
    squared: bool = False
    mixup: float = 0.0
    cutmix: float = 0.0
    augment: Augment


ONE_CYCLE: Final = Recipe(
    epochs=300, batch_size=50, optimizer="adamw", lr=4e-3, weight_decay=0.01, schedule="one-cycle", mixup=0.8,
    augment="crop-flip",
)  # fmt: skip
"""The default, for tens to hundreds of images on a CPU: small batches and a short one-cycle with a high peak."""

SRE2L: Final = Recipe(
    epochs=300, batch_size=1024, optimizer="adamw", lr=1e-3, weight_decay=0.01, schedule="cosine", cutmix=1.0,
    augment="resized-crop-flip",
)  # fmt: skip
"""SRe2L's students on ImageNet-1k (its train_FKD command)."""

SRE2L_CIFAR: Final = Recipe(
    epochs=400, batch_size=128, optimizer="adamw", lr=1e-3, weight_decay=0.01, schedule="cosine", temperature=30.0,
    mixup=0.8, augment="crop-flip",
)  # fmt: skip
"""SRe2L's students on CIFAR-100. The published teacher labels in training mode, ours in eval mode."""

SRE2L_TINY: Final = Recipe(
    epochs=100, batch_size=256, optimizer="sgd", lr=0.2, weight_decay=1e-4, schedule="warm-up-cosine", squared=True,
    augment="resized-crop-flip",
)  # fmt: skip
"""SRe2L's students on Tiny ImageNet (its train_kd command)."""

DC: Final = Recipe(
    epochs=300, batch_size=256, optimizer="sgd", lr=0.01, weight_decay=5e-4, schedule="step", augment="none",
)  # fmt: skip
"""The evaluation of DC (arXiv 2006.05929): the rate falls to a tenth half way; 1000 epochs with augmentation."""

MODERN: Final = Recipe(
    epochs=400, batch_size=50, optimizer="adamw", lr=1e-3, weight_decay=0.01, schedule="half-cosine", cutmix=1.0,
    augment="resized-crop-flip",
)  # fmt: skip
"""RD3's common protocol (arXiv 2509.19743), which raises SRe2L on ImageNet-1k at IPC 10 from 21.3 to 40.2 %. Its
shuffling of patches is left out, since it is for images that are collages of patches."""

RECIPES: Final = {
    "one-cycle": ONE_CYCLE, "sre2l": SRE2L, "sre2l-cifar": SRE2L_CIFAR, "sre2l-tiny": SRE2L_TINY, "dc": DC,
    "modern": MODERN,
}  # fmt: skip

_OVERRIDES: Final = ("epochs", "batch_size", "lr", "weight_decay", "temperature", "mixup", "cutmix", "augment")


def recipe_of(settings: StudentConfig) -> Recipe:
    """Return the recipe called ``settings.protocol``, with the options that are set in place of its own."""
    given = {name: getattr(settings, name) for name in _OVERRIDES if getattr(settings, name) is not None}
    return replace(RECIPES[settings.protocol], **given)
