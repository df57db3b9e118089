"""What the loop asked of autograd: the roots it differentiates and where the gradients go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

Gradients = Sequence[Tensor | None]


@dataclass
class BackwardCall:
    """A call of autograd's engine, which every way to differentiate in Python comes down to.

    ``deliver`` may be called several times, with the parts of the objective; ``result`` then returns what the
    original call would have returned for their sum.

    Attributes:
        engine: Autograd's engine.
        roots: The tensors to differentiate.
        weights: Their factors.
        retain: Whether the graph is needed again.
        create: Whether the gradients have graphs of their own.
        wanted: Where the gradients go; empty for every leaf.
        lenient: Whether tensors the roots do not depend on are allowed.
        accumulates: Whether gradients are added to ``.grad`` rather than returned.
    """

    engine: Any
    roots: tuple[Tensor, ...]
    weights: tuple[Tensor | None, ...]
    retain: bool
    create: bool
    wanted: tuple[Any, ...] = ()
    lenient: bool = False
    accumulates: bool = False
    _parts: list[Gradients] = field(default_factory=list)

    def passed_on(self) -> Any:
        """Run the original call on the loop's own graph."""
        return self._run(self.roots, self.weights, self.retain, self.wanted, self.lenient)

    def _run(self, roots: Any, weights: Any, retain: bool, wanted: tuple[Any, ...], lenient: bool) -> Any:
        return self.engine.run_backward(
            roots, weights, retain, self.create, wanted, allow_unreachable=lenient, accumulate_grad=self.accumulates
        )

    def plain(self) -> bool:
        """Return whether the call has no scalar objective, such as one of edges of the graph, or of several at once."""
        if self.batched() or not all(isinstance(root, Tensor) and not root.is_complex() for root in self.roots):
            return True
        return any(w is None and r.numel() != 1 for r, w in zip(self.roots, self.weights, strict=True))

    def batched(self) -> bool:
        """Return whether the call takes several gradients at once, by ``is_grads_batched=True``."""
        return any(w is not None and torch._C._functorch.is_legacy_batchedtensor(w) for w in self.weights)

    def objective(self, roots: Sequence[Tensor]) -> Tensor:
        """Return the scalar whose gradient the call asks for, given the values of its roots."""
        parts = [_weighted(root, weight) for root, weight in zip(roots, self.weights, strict=True)]
        return parts[0] if len(parts) == 1 else torch.stack([part.to(parts[0].dtype) for part in parts]).sum()

    def deliver(
        self, part: Tensor, coefficient: Tensor | float, *, retain: bool = False, also: Sequence[Tensor] = ()
    ) -> list[Tensor]:
        """Differentiate ``coefficient · part`` into the places the loop asked for, and with respect to ``also``.

        Args:
            part: A scalar with a graph.
            coefficient: Its factor.
            retain: Whether the graph is needed again.
            also: Leaves whose gradients are returned rather than delivered.

        Returns:
            The gradients of ``coefficient · part`` with respect to ``also``.
        """
        factor = torch.as_tensor(coefficient, dtype=part.dtype, device=part.device)
        retain = retain or self.create
        if not self.accumulates:
            grads = self._run((part,), (factor,), retain, (*self.wanted, *also), self.lenient or bool(also))
            self._parts.append(grads[: len(self.wanted)])
            return filled(grads[len(self.wanted) :], also)
        before = [leaf.grad for leaf in also]
        for leaf in also:
            leaf.grad = None
        self._run((part,), (factor,), retain, (*self.wanted, *also) if self.wanted else (), True)
        found = [leaf.grad for leaf in also]
        for leaf, grad in zip(also, before, strict=True):
            leaf.grad = grad
        return filled(found, also)

    def result(self) -> Any:
        """Return what the original call returns: the summed gradients, or nothing."""
        if self.accumulates:
            return ()
        sums: list[Tensor | None] = []
        for gradients in zip(*self._parts, strict=True):
            present = [g for g in gradients if g is not None]
            sums.append(sum(present[1:], start=present[0]) if present else None)
        return tuple(sums)

    def is_lone_scalar(self) -> bool:
        """Return whether the call differentiates one scalar with factor one."""
        weight = self.weights[0]
        return len(self.roots) == 1 and self.roots[0].numel() == 1 and (weight is None or float(weight) == 1)


def _weighted(root: Tensor, weight: Tensor | None) -> Tensor:
    if weight is None:
        return root.reshape(())
    return (root * weight.detach()).reshape(()) if root.numel() == 1 else (root * weight.detach()).sum()


def filled(gradients: Sequence[Tensor | None], like: Sequence[Tensor]) -> list[Tensor]:
    """Return ``gradients`` with zeros where an input turned out not to matter."""
    return [torch.zeros_like(x) if g is None else g for g, x in zip(gradients, like, strict=True)]
