"""The adaptive attack, which knows the model's teacher and replaces ReLU by a smooth surrogate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from guard_plugins.attacks.ascent import input_gradient
from guard_plugins.attacks.losses import LOSSES, LossName
from guard_plugins.attacks.pgd import PGD
from guard_plugins.runtime.eval_mode import borrowed

if TYPE_CHECKING:
    from torch import Tensor, nn

    from guard_plugins.attacks.ascent import Gradient


_OUT_OF_PLACE: Final = frozenset({torch.relu, torch.Tensor.relu})
_IN_PLACE: Final = frozenset({torch.relu_, torch.Tensor.relu_})


@dataclass(frozen=True, kw_only=True)
class Adaptive(PGD):
    """Margin PGD along the sum of the gradients of the model and its teacher, with a smooth surrogate of ReLU.

    Each gradient is first divided by the largest entry of its sample, so that both models have the same weight.

    Attributes:
        teacher: The network that the model was trained from, or None if it is not known.
        beta: Sharpness of the surrogate; 0 for ReLU itself.
    """

    name: ClassVar[str] = "adaptive"
    summary: ClassVar[str] = "margin PGD that also uses the teacher's gradients and a smooth ReLU"
    display: ClassVar[str] = "Adaptive PGD"
    loss: ClassVar[LossName] = "margin"

    teacher: nn.Module | None = field(default=None, repr=False)
    beta: float = 10.0

    @property
    def label(self) -> str:
        """Name, steps and whether there is a teacher: ``adaptive-20+teacher``."""
        return super().label + ("+teacher" if self.teacher is not None else "")

    def perturb(
        self, model: nn.Module, images: Tensor, labels: Tensor, *, eps: float, generator: torch.Generator
    ) -> Tensor:
        """Return the first iterate of every sample that the model, not the teacher, misclassifies, or the last one."""
        with borrowed(*(() if self.teacher is None else (self.teacher,))):
            return super().perturb(model, images, labels, eps=eps, generator=generator)

    def gradient(self, model: nn.Module) -> Gradient:
        """Return the model's logits and the sum of the normalised gradients."""
        loss = LOSSES[self.loss]
        known = [input_gradient(network, loss) for network in (model, self.teacher) if network is not None]

        def gradient(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
            found = [self._through_surrogate(one, images, labels) for one in known]
            total = torch.stack([grad / _largest(grad) for _, grad in found]).sum(dim=0)
            return found[0][0], total

        return gradient

    def _through_surrogate(self, gradient: Gradient, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        if not self.beta:
            return gradient(images, labels)
        with SmoothReLU(self.beta):
            return gradient(images, labels)


def _largest(grad: Tensor) -> Tensor:
    return grad.abs().flatten(1).amax(dim=1).clamp_min(torch.finfo(grad.dtype).tiny).view(-1, 1, 1, 1)


class SmoothReLU(TorchFunctionMode):
    """Gives every ReLU the derivative of softplus, sigmoid(beta x), in the backward pass while it is active.

    The gradients of ReLU networks jump, and vanish where units are dead. The smooth derivative avoids both
    (backward-pass approximation, Athalye et al. 2018). It works for modules, functions and
    methods, since calls are caught in torch.

    Args:
        beta: Sharpness; the larger, the closer to ReLU.
    """

    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = beta

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Replace calls that compute a ReLU, and pass on all others."""
        kwargs = dict(kwargs or {})
        if func in _OUT_OF_PLACE:
            return self._relu(*args, **kwargs)
        if func in _IN_PLACE:
            return args[0].copy_(self._relu(args[0].clone()))
        if func is F.relu:
            inplace = kwargs.pop("inplace", args[1] if len(args) > 1 else False)
            x = args[0] if args else kwargs["input"]
            return x.copy_(self._relu(x.clone())) if inplace else self._relu(x)
        return func(*args, **kwargs)

    def _relu(self, input: Tensor) -> Tensor:
        smooth = F.softplus(input, beta=self.beta)
        return smooth + (input.clamp_min(0) - smooth).detach()
