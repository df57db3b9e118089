"""All that one regularised backward pass works with, and what it measures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from guard_plugins.curvature.options import Options
from guard_plugins.curvature.penalty import curvature, step_along
from guard_plugins.curvature.replay import Preserved, Replay
from guard_plugins.curvature.roots import BackwardCall

if TYPE_CHECKING:
    from guard_plugins.curvature.selfcheck import SelfCheck


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one regularised backward pass measured; scalars on the model's device, without graph.

    Attributes:
        loss: ℓ̄(x), as the loop passed it to backward.
        term: The term before its weight.
        gradient_norm: ‖g‖.
        curvature: κ along z.
    """

    loss: Tensor
    term: Tensor
    gradient_norm: Tensor
    curvature: Tensor


@dataclass(frozen=True)
class Step:
    """One regularised backward pass.

    Attributes:
        call: The backward call of the loop.
        replay: The computation behind it.
        keep: The states its replays put back.
        options: The hook's settings.
        number: Optimiser step, from 0, for the ramp.
        check: The self-check.
    """

    call: BackwardCall
    replay: Replay
    keep: Preserved
    options: Options
    number: int
    check: SelfCheck

    @cached_property
    def lengths(self) -> list[float]:
        """Length of z for each input."""
        leaves = self.replay.leaves()
        return [self.options.step_length(x.numel() // max(len(x), 1), self.number) for x in leaves]

    def displaced(self, gradients: Sequence[Tensor], norms: Sequence[Tensor]) -> list[Tensor]:
        """Return x + z for each input, given g and ‖g_i‖ for each."""
        inputs = zip(self.replay.leaves(), gradients, norms, self.lengths, strict=True)
        return [x.detach() + step_along(g, n, h) for x, g, n, h in inputs]

    def outcome(self, *, difference: Tensor, term: Tensor, norms: Sequence[Tensor]) -> Outcome:
        """Return what was measured.

        Args:
            difference: ℓ̄(x + z) − ℓ̄(x).
            term: The term before its weight.
            norms: ‖g_i‖ for each input.
        """
        totals = [n.sum() for n in norms]
        slopes = [total * h for total, h in zip(totals, self.lengths, strict=True)]
        h = math.sqrt(sum(h * h for h in self.lengths) / len(self.lengths))
        kappa = curvature(difference.detach(), sum(slopes[1:], start=slopes[0]), h)
        return Outcome(self.replay.value.detach(), term.detach(), sum(totals[1:], start=totals[0]), kappa)


def filled(gradients: Sequence[Tensor | None], like: Sequence[Tensor]) -> list[Tensor]:
    """Return ``gradients`` with zeros where an input turned out not to matter."""
    return [torch.zeros_like(x) if g is None else g for g, x in zip(gradients, like, strict=True)]
