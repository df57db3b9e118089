"""How students are trained: named recipes (``--student.protocol``), each from a source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, ClassVar, Final, Literal

from guard_plugins.config.student import StudentConfig

Optimizer = Literal["adamw", "sgd"]
Schedule = Literal["one-cycle", "cosine", "warm-up-cosine", "half-cosine", "step", "late-steps"]
Loss = Literal["kl", "mse", "cosine"]


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
        loss: What is minimised under soft labels: ``kl``, the divergence of softmaxes at T; ``mse``, the mean square
            of the logits' difference; ``cosine``, 1 less the cosine between the student's logits and the teacher's. T
            plays no part in the last two.
        squared: Whether the divergence is multiplied by T².
        hard: Weight of the classes, mixed like the images, beside soft labels: of their cross-entropy; with ``cosine``,
            of their direction, smoothed by 0.1, beside the teacher's.
        ema: Decay per step of the running mean of the weights that the student ends with; 0 for the last weights.
        mixup: Alpha of MixUp, 0 for none.
        cutmix: Alpha of CutMix, 0 for none.
        augment: Name of the augmentation before mixing.
    """

    epochs: int
    batch_size: int
    optimizer: Optimizer
    lr: float
    weight_decay: float
    schedule: Schedule
    temperature: float = 20.0
    loss: Loss = "kl"
    squared: bool = False
    hard: float = 0.0
    ema: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    augment: str


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


GIFT: Final = replace(ONE_CYCLE, loss="cosine", hard=0.1)
"""The loss of GIFT (arXiv 2405.14736) in the default recipe. As in its public code, a tenth of the smoothed classes is
added to the teacher's logits, both of length 1."""


class StudentRecipe:
    """A recipe, as plugins register it.

    Attributes:
        name: What users pass to ``--student.protocol``.
        summary: One line for listings.
        recipe: How students are trained.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    recipe: ClassVar[Recipe]


class OneCycle(StudentRecipe):
    """See :data:`ONE_CYCLE`."""

    name, summary, recipe = "one-cycle", "the default, for tens to hundreds of images", ONE_CYCLE


class Sre2l(StudentRecipe):
    """See :data:`SRE2L`."""

    name, summary, recipe = "sre2l", "SRe2L on ImageNet-1k", SRE2L


class Sre2lCifar(StudentRecipe):
    """See :data:`SRE2L_CIFAR`."""

    name, summary, recipe = "sre2l-cifar", "SRe2L on CIFAR-100", SRE2L_CIFAR


class Sre2lTiny(StudentRecipe):
    """See :data:`SRE2L_TINY`."""

    name, summary, recipe = "sre2l-tiny", "SRe2L on Tiny ImageNet", SRE2L_TINY


class Dc(StudentRecipe):
    """See :data:`DC`."""

    name, summary, recipe = "dc", "the evaluation of DC", DC


class Modern(StudentRecipe):
    """See :data:`MODERN`."""

    name, summary, recipe = "modern", "RD3's common protocol", MODERN


class Gift(StudentRecipe):
    """See :data:`GIFT`."""

    name, summary, recipe = "gift", "the default with GIFT's loss, the cosine to refined labels", GIFT


BUILT_IN: Final[tuple[type[StudentRecipe], ...]] = (OneCycle, Sre2l, Sre2lCifar, Sre2lTiny, Dc, Modern, Gift)
RECIPES: Final[Mapping[str, Recipe]] = {kind.name: kind.recipe for kind in BUILT_IN}
"""The recipes that ship with the project."""

_OVERRIDES: Final = ("epochs", "batch_size", "lr", "weight_decay", "temperature", "mixup", "cutmix", "augment")


def recipe_of(settings: StudentConfig, others: Mapping[str, type[Any]] = MappingProxyType({})) -> Recipe:
    """Return the recipe called ``settings.protocol``, with the options that are set in place of its own.

    Args:
        settings: The section ``student``.
        others: The registered recipes by name; those of the project where left out.
    """
    given = {name: getattr(settings, name) for name in _OVERRIDES if getattr(settings, name) is not None}
    known = RECIPES.get(settings.protocol)
    return replace(known or others[settings.protocol].recipe, **given)
