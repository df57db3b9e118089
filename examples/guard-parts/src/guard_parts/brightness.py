"""An attack: makes the whole image brighter or darker, whichever raises the loss more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from guard_plugins.attacks.base import Attack, Norm

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Brightness(Attack):
    """Shifts all pixels by +eps or -eps, whichever raises the loss more; deterministic, no gradients."""

    name: ClassVar[str] = "brightness"
    norm: ClassVar[Norm] = "Linf"
    summary: ClassVar[str] = "all pixels brighter or darker by eps, whichever raises the loss more"
    display: ClassVar[str] = "Brightness"
    black_box: ClassVar[bool] = True

    def perturb(
        self, model: nn.Module, images: Tensor, labels: Tensor, *, eps: float, generator: torch.Generator
    ) -> Tensor:
        """Return for every image the shift with the larger cross-entropy, clipped to [0, 1]."""
        import torch
        from torch.nn import functional as F

        brighter, darker = (images + eps).clamp(0, 1), (images - eps).clamp(0, 1)
        with torch.no_grad():
            up, down = (F.cross_entropy(model(x), labels, reduction="none") for x in (brighter, darker))
        return torch.where((up > down).view(-1, 1, 1, 1), brighter, darker)
