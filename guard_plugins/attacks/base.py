"""The base class of attacks, built-in ones and those of plugins."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Norm = Literal["Linf", "L2"]


class Attack(ABC):
    """An untargeted attack in pixel space, as plugins register it.

    Attacks are small objects whose constructor takes keyword-only settings; every one of them shows in ``repr``.

    Attributes:
        name: What options and ``report.json`` call it (``pgd``); settings may extend it (see ``label``).
        norm: The norm ``eps`` is measured in.
        summary: One line for listings.
        display: How pages and tables write the name (``PGD``); empty for the name itself.
        black_box: Whether it uses no gradients of the model. The release gate then fails if it breaks images that
            white-box attacks at the same radius did not, since gradients are masked in that case.
    """

    name: ClassVar[str]
    norm: ClassVar[Norm]
    summary: ClassVar[str]
    display: ClassVar[str] = ""
    black_box: ClassVar[bool] = False

    @property
    def label(self) -> str:
        """Name with the settings that matter to a reader, such as ``pgd-20``."""
        return self.name

    @property
    def strength(self) -> float | None:
        """Rank among the attacks that the release gate compares, or None (the default) for no rank.

        FGSM, PGD by its steps and AutoAttack have one. At the same radius, an attack must not leave more images
        correctly classified than one of a lower rank.
        """
        return None

    def parts(self) -> Sequence[Attack]:
        """Return the attacks that this one consists of, each run on what the earlier ones left; by default itself.

        The evaluation runs each part over all images, in full batches, and reports the accuracy after it.
        """
        return (self,)

    @abstractmethod
    def perturb(
        self, model: nn.Module, images: Tensor, labels: Tensor, *, eps: float, generator: torch.Generator
    ) -> Tensor:
        """Return adversarial images within ``eps`` of ``images`` and within [0, 1].

        Args:
            model: Maps images in [0, 1], shape (B, C, H, W), to logits (B, K); in eval mode, normalisation inside.
            images: Clean images in [0, 1], shape (B, C, H, W).
            labels: True classes, int64 of shape (B,).
            eps: Radius in pixel units (8 / 255, say) in the attack's norm.
            generator: The only source of randomness, on the images' device.
        """


def display_names(attacks: Mapping[str, type[Attack]]) -> dict[str, str]:
    """Return how pages and tables write the names of attacks, by name."""
    return {name: attack.display or name for name, attack in attacks.items()}
