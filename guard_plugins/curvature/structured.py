"""The float tensors of a nested x, for the explicit form: where they are, which of their dimensions count samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from guard_plugins.curvature.messages import about_inputs
from guard_plugins.curvature.objective.options import Options
from guard_plugins.curvature.objective.penalty import sample_norms, step_along
from guard_plugins.curvature.record.known import is_data
from guard_plugins.curvature.record.sources import unbatched, unusable
from guard_plugins.curvature.state.pytree import leaves_of, replace_leaves


class Inputs:
    """A nested x whose float tensors move.

    Args:
        x: A tensor, or a list, tuple or dict that holds some.

    Attributes:
        tensors: The tensors that move, each requiring a gradient.
        owned: Whether they are leaves made here; otherwise gradients flow on to where they come from.

    Raises:
        HookError: If none of them can move.
    """

    def __init__(self, x: Any) -> None:
        self._leaves = leaves_of(x)
        self._whole = x
        self._places = [i for i, leaf in enumerate(self._leaves) if isinstance(leaf, Tensor) and is_data(leaf)]
        given = [self._leaves[i] for i in self._places]
        if not given:
            raise about_inputs.cannot_be_x(f"{type(x).__name__} without a floating-point tensor")
        for tensor in given:
            problem = unusable(tensor, f"x {tuple(tensor.shape)}")
            if problem is not None:
                raise problem
        self._rows = not (isinstance(x, (list, tuple)) and unbatched(given))
        self.owned = not any(tensor.requires_grad for tensor in given)
        self.tensors = self.fresh(given) if self.owned else given

    @property
    def samples(self) -> int:
        """Number of samples."""
        return len(self.tensors[0]) if self._rows else len(self.tensors)

    @property
    def devices(self) -> set[torch.device]:
        """Where the tensors are."""
        return {tensor.device for tensor in self.tensors}

    def fresh(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return new leaves with the numbers of ``tensors``."""
        return [(t.clone() if t.is_inference() else t.detach()).requires_grad_() for t in tensors]

    def whole(self, tensors: Sequence[Tensor]) -> Any:
        """Return x with ``tensors`` in their places."""
        leaves = list(self._leaves)
        for place, tensor in zip(self._places, tensors, strict=True):
            leaves[place] = tensor
        return replace_leaves(self._whole, leaves)

    def norms(self, gradients: Sequence[Tensor]) -> Tensor:
        """Return ‖g_i‖ of every sample of every tensor, in one row."""
        return torch.cat([sample_norms(self._by_sample(g)) for g in gradients])

    def lengths(self, options: Options, step: int) -> list[float]:
        """Return h for each tensor."""
        return [
            options.step_length(t.numel() // max(len(t), 1) if self._rows else t.numel(), step) for t in self.tensors
        ]

    def moved(self, gradients: Sequence[Tensor], lengths: Sequence[float]) -> list[Tensor]:
        """Return x + z for each tensor."""
        found = []
        for x, gradient, h in zip(self.tensors, gradients, lengths, strict=True):
            g = self._by_sample(gradient)
            z = step_along(g, sample_norms(g), h)
            found.append((x.detach() if self.owned else x) + (z if self._rows else z.squeeze(0)))
        return found

    def _by_sample(self, tensor: Tensor) -> Tensor:
        return tensor if self._rows else tensor.unsqueeze(0)
