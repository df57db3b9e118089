"""What an attack is to the evaluation, and how plugins provide one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Norm = Literal["Linf", "L2"]


class Attack(ABC):
    """An untargeted attack in pixel space, as plugins register it.

    Attacks are small objects whose constructor takes keyword-only settings; every one of them shows in ``repr``.

    Attributes:
        name: What reports and ``--attacks`` call it (``pgd``); settings may extend it (see ``label``).
        norm: The norm ``eps`` is measured in.
        summary: One line for listings.
    """

    name: ClassVar[str]
    norm: ClassVar[Norm]
    summary: ClassVar[str]

    @property
    def label(self) -> str:
        """Name with the settings that matter to a reader, such as ``pgd-20``."""
        return self.name

    def parts(self) -> Sequence[Attack]:
        """Return the attacks this one runs one after the other, each on what the earlier ones left; itself by default.

        The evaluation runs the parts over all images, which packs full batches, and reports after each.
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
