"""Checking now and then that a replay at the same input is the loop's own computation, in value and gradient."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn

from guard_plugins.curvature.messages import about_losses, about_models
from guard_plugins.curvature.record.backward_call import filled
from guard_plugins.curvature.record.graph import Operation
from guard_plugins.curvature.record.ledger import TensorLedger
from guard_plugins.curvature.replay.module_reads import Reads
from guard_plugins.curvature.replay.preserved import Preserved
from guard_plugins.curvature.replay.replay import Replay

PERIOD: Final = 250
"""Regularised backward passes between two checks of a computation seen before."""

_KINDS: Final = 32  # a model with more shapes of losses than this is checked periodically only
_SAMPLED: Final = 256  # numbers of a weight that are compared
_REDUCED: Final = (torch.float16, torch.bfloat16)


class CheckSchedule:
    """Remembers which kinds of computation of which models were checked, and when; lives as long as the hook."""

    def __init__(self) -> None:
        self._passes = 0
        self._numbers: weakref.WeakKeyDictionary[nn.Module, int] = weakref.WeakKeyDictionary()
        self._fresh = itertools.count()
        # by the youngest model of each, so that what is known goes when a model goes
        self._known: weakref.WeakKeyDictionary[nn.Module, dict[tuple[int, ...], set[tuple[str, ...]]]]
        self._known, self._no_model = weakref.WeakKeyDictionary(), nn.Module()

    def due(self, replay: Replay) -> bool:
        """Count a regularised pass; return whether it is to be checked."""
        periodic = self._passes % PERIOD == 0
        self._passes += 1
        models = {self._number(module): module for module in replay.modules()}
        youngest = models[max(models)] if models else self._no_model
        kinds = self._known.setdefault(youngest, {}).setdefault(tuple(models), set())
        kind = _kind(replay)
        if kind not in kinds and len(kinds) < _KINDS:
            kinds.add(kind)
            return True
        return periodic

    def _number(self, module: nn.Module) -> int:
        number = self._numbers.get(module)
        if number is None:
            number = self._numbers[module] = next(self._fresh)
        return number


def _kind(replay: Replay) -> tuple[str, ...]:
    names = [
        getattr(node.function, "__name__", "") if isinstance(node, Operation) else type(node).__name__
        for node in replay.nodes
    ]
    return (*names, str(len(replay.attached)))


class SelfCheck:
    """The check of one backward pass.

    Args:
        ledger: The notes of the session.
        due: Whether this pass is to be checked.
    """

    def __init__(self, ledger: TensorLedger, *, due: bool) -> None:
        self._ledger, self.due = ledger, due
        self._weights: list[_Weights] = []

    def compare(self, replay: Replay, keep: Preserved, gradients: Sequence[Tensor] | None) -> None:
        """Replay at the loop's own input and compare.

        Args:
            replay: The computation behind the backward call.
            keep: The states to put back after a replay.
            gradients: The loop's input gradients, or None where its graph must not be used: then the value alone is
                compared.

        Raises:
            HookError: If the value or the input gradient differs beyond rounding, or a module reads x unseen.
        """
        if not self.due:
            return
        leaves, self._weights = replay.fresh(), [_Weights(module) for module in replay.modules()]
        again = replay.run(leaves, keep, inside=Reads(self._ledger, replay.sources).inside)
        self.require_weights()
        reduced = _is_reduced(replay)
        _compare_values(replay.value, again, reduced=reduced)
        if gradients is not None:
            own = torch.autograd.grad(again, leaves, allow_unused=True) if again.requires_grad else [None] * len(leaves)
            _compare_gradients(gradients, filled(own, leaves), reduced=reduced)

    def require_weights(self) -> None:
        """Return if no replay since the check began has changed a weight of a model.

        Raises:
            HookError: If one has.
        """
        for known in self._weights:
            known.require_same()


class _Weights:
    """A look at the weights of a module, dear enough for a check only: writing through .data leaves no other trace."""

    def __init__(self, module: nn.Module) -> None:
        self._module, self._seen = module, _look(module)
        self._frozen = [(p, p.data_ptr()) for p in module.parameters() if not p.requires_grad]

    def require_same(self) -> None:
        """Return if the weights are as they were.

        Raises:
            HookError: If one is not.
        """
        replaced = any(p.data_ptr() != pointer for p, pointer in self._frozen)
        if replaced or any(not _alike(a, b) for a, b in zip(self._seen, _look(self._module), strict=True)):
            raise about_models.advances_its_weights(type(self._module).__name__)


def _look(module: nn.Module) -> list[Tensor]:
    """Return the sum and the first numbers of every weight; the whole of large ones would need their memory again."""
    found = []
    for weight in module.parameters():
        if weight.layout != torch.strided or not weight.is_floating_point() or weight.element_size() == 1:
            continue
        flat = weight.detach().reshape(-1)
        found.append(torch.cat([flat.sum().reshape(1).nan_to_num(), flat[:_SAMPLED].nan_to_num()]))
    return found


def _alike(a: Tensor, b: Tensor) -> bool:
    """Return whether weights differ by rounding at most: a model may normalise them at every call."""
    return torch.allclose(a, b, rtol=1e-2 if a.dtype in _REDUCED else 1e-5, atol=1e-7)


def _is_reduced(replay: Replay) -> bool:
    tensors = [replay.value, *replay.leaves()]
    return any(t.dtype in _REDUCED for t in tensors) or any(call.autocast.enabled for call in replay.calls)


def _compare_values(loop: Tensor, again: Tensor, *, reduced: bool) -> None:
    a, b = float(loop.detach()), float(again.detach())
    tolerance = 2e-2 if reduced else 1e-6 if loop.dtype == torch.float64 else 1e-3
    same = a == b or (a != a and b != b) or abs(a - b) <= tolerance * max(abs(a), abs(b)) + 1e-7
    if not same:
        raise about_losses.value_differs(a, b)


def _compare_gradients(loop: Sequence[Tensor], again: Sequence[Tensor], *, reduced: bool) -> None:
    pairs = [(a.detach().double(), b.double()) for a, b in zip(loop, again, strict=True)]
    gap = sum(float((a - b).square().sum()) for a, b in pairs) ** 0.5
    size = sum(float(a.square().sum()) for a, _ in pairs) ** 0.5
    if size == 0 or gap != gap:
        return
    if gap > (5e-2 if reduced else 1e-2) * size:
        raise about_losses.gradient_differs(gap / size)
