"""The gate's transferred attack; no protocol has it, since it needs a second network."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import torch

from guard_plugins.attacks.ascent import input_gradient
from guard_plugins.attacks.losses import LOSSES, LossName
from guard_plugins.attacks.pgd import PGD
from guard_plugins.errors import ConfigError
from guard_plugins.runtime.eval_mode import borrowed

if TYPE_CHECKING:
    from torch import Tensor, nn

    from guard_plugins.attacks.ascent import Gradient


@dataclass(frozen=True, kw_only=True)
class Transfer(PGD):
    """Margin PGD along the gradients of another network, stopped as soon as the attacked one is fooled.

    Attributes:
        source: The network whose gradients are followed; required.
    """

    name: ClassVar[str] = "transfer"
    summary: ClassVar[str] = "margin PGD along the gradients of another network"
    loss: ClassVar[LossName] = "margin"

    source: nn.Module | None = field(default=None, repr=False)

    def perturb(
        self, model: nn.Module, images: Tensor, labels: Tensor, *, eps: float, generator: torch.Generator
    ) -> Tensor:
        """Return the first iterate of every sample that the model, not the source, misclassifies, or the last one."""
        with borrowed(self._known_source()):
            return super().perturb(model, images, labels, eps=eps, generator=generator)

    def gradient(self, model: nn.Module) -> Gradient:
        """Return the model's logits and the source's gradient."""
        follow = input_gradient(self._known_source(), LOSSES[self.loss])

        def gradient(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
            with torch.no_grad():
                logits: Tensor = model(images)
            return logits, follow(images, labels)[1]

        return gradient

    def _known_source(self) -> nn.Module:
        if self.source is None:
            raise ConfigError("The transfer attack needs a network to take gradients from.", do="pass source=...")
        return self.source
