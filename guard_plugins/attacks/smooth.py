"""A smooth surrogate of ReLU for the attacker's backward pass; the forward pass stays exact."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from torch import Tensor

_OUT_OF_PLACE: Final = frozenset({torch.relu, torch.Tensor.relu})
_IN_PLACE: Final = frozenset({torch.relu_, torch.Tensor.relu_})


class SmoothReLU(TorchFunctionMode):
    """While active, every ReLU computes max(x, 0) forwards and the derivative of softplus, sigmoid(beta x), backwards.

    A network of ReLUs has gradients that jump and, where units are dead, vanish; the smooth derivative lets the
    attacker see past both (backward-pass approximation, Athalye et al. 2018). Modules, functions and methods are all
    reached, because the calls are caught where they enter torch.

    Args:
        beta: Sharpness; the surrogate tends to ReLU as it grows.
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
        """Replace the calls that compute a ReLU; pass on all others."""
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
