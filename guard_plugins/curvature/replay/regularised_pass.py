"""All that one regularised backward pass works with, and what it measures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from guard_plugins.curvature.objective.options import Options
from guard_plugins.curvature.objective.penalty import Outcome, curvature, sample_norms, step_along
from guard_plugins.curvature.record.backward_call import BackwardCall
from guard_plugins.curvature.record.graph import Source
from guard_plugins.curvature.replay.preserved import Preserved
from guard_plugins.curvature.replay.replay import Replay
from guard_plugins.curvature.replay.selfcheck import SelfCheck


@dataclass(frozen=True)
class Pass:
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
    def groups(self) -> list[list[int]]:
        """Places of the inputs that share one z, in order; most inputs are alone."""
        found: dict[object, list[int]] = {}
        for place, source in enumerate(self.replay.sources):
            found.setdefault(id(source) if source.group is None else source.group, []).append(place)
        return list(found.values())

    @cached_property
    def lengths(self) -> list[float]:
        """Length of z for each input; those of one group share it."""
        lengths = [0.0] * len(self.replay.sources)
        for group in self.groups:
            elements = sum(_elements(self.replay.sources[place]) for place in group)
            for place in group:
                lengths[place] = self.options.step_length(elements, self.number)
        return lengths

    def norms(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        """Return ‖g_i‖ per sample for each group of inputs."""
        rows = [_by_sample(g, s) for g, s in zip(gradients, self.replay.sources, strict=True)]
        found = []
        for group in self.groups:
            own = [sample_norms(rows[place]) for place in group]
            squares = [n.square() for n in own]
            found.append(own[0] if len(own) == 1 else sum(squares[1:], start=squares[0]).sqrt())
        return found

    def displaced(self, gradients: Sequence[Tensor], norms: Sequence[Tensor]) -> list[Tensor]:
        """Return x + z for each input, given g for each and ‖g_i‖ for each group."""
        of = {place: n for group, n in zip(self.groups, norms, strict=True) for place in group}
        moved = []
        for place, (source, g) in enumerate(zip(self.replay.sources, gradients, strict=True)):
            z = step_along(_by_sample(g, source), of[place], self.lengths[place])
            moved.append(source.leaf.detach() + (z if source.rows else z.squeeze(0)))
        return moved

    def outcome(self, *, difference: Tensor, term: Tensor, norms: Sequence[Tensor]) -> Outcome:
        """Return what was measured.

        Args:
            difference: ℓ̄(x + z) − ℓ̄(x).
            term: The term before its weight.
            norms: ‖g_i‖ for each group of inputs.
        """
        totals = [n.sum() for n in norms]
        lengths = [self.lengths[group[0]] for group in self.groups]
        slopes = [total * h for total, h in zip(totals, lengths, strict=True)]
        h = math.sqrt(sum(h * h for h in lengths) / len(lengths))
        kappa = curvature(difference.detach(), sum(slopes[1:], start=slopes[0]), h)
        return Outcome(self.replay.value.detach(), term.detach(), sum(totals[1:], start=totals[0]), kappa)


def _by_sample(tensor: Tensor, source: Source) -> Tensor:
    return tensor if source.rows else tensor.unsqueeze(0)


def _elements(source: Source) -> int:
    leaf = source.leaf
    return leaf.numel() // max(len(leaf), 1) if source.rows else leaf.numel()
