"""What the loop asked of autograd: the roots it differentiates and where the gradients go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from guard_plugins.curvature.traced import Traced, strip

Gradients = Sequence[Tensor | None]


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (tuple, list)) else [value]


@dataclass
class BackwardCall:
    """A call of ``Tensor.backward``, ``torch.autograd.backward`` or ``torch.autograd.grad``.

    ``deliver`` may be called several times, with the parts of the objective; ``result`` then returns what the
    original call would have returned for their sum.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    _parts: list[Gradients] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.roots: list[Tensor] = _listed(self.args[0])
        self.collects = self.function is torch.autograd.grad
        inputs = self.args[1] if self.collects and len(self.args) > 1 else self.kwargs.get("inputs")
        self.wanted: list[Any] = [] if inputs is None else _wanted(inputs)
        self.retain = bool(self.kwargs.get("retain_graph"))
        self.create = bool(self.kwargs.get("create_graph"))
        name = "grad_outputs" if self.collects else "gradient" if self.function is Tensor.backward else "grad_tensors"
        weights = self.kwargs.get(name)
        self.weights: list[Any] = [None] * len(self.roots) if weights is None else _listed(weights)

    @property
    def plain_only(self) -> bool:
        """Whether the call is of a kind PyTorch will reject or that has no single objective."""
        implicit = any(w is None and r.numel() != 1 for r, w in zip(self.roots, self.weights, strict=False))
        return implicit or len(self.roots) != len(self.weights) or bool(self.kwargs.get("is_grads_batched"))

    def passed_on(self) -> Any:
        """Run the original call on the loop's own graph."""
        with torch._C.DisableTorchFunctionSubclass():
            return self.function(*self.args, **self.kwargs)

    def objective(self, roots: Sequence[Tensor]) -> Tensor:
        """Return the scalar whose gradient the call asks for, given the values of its roots."""
        parts = [
            root.reshape(()) if weight is None else (root * strip(weight)).sum()
            for root, weight in zip(roots, self.weights, strict=True)
        ]
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
        retain, create = retain or self.create, self.create
        if self.collects:
            lenient = bool(also) or bool(self.kwargs.get("allow_unused") or self.kwargs.get("materialize_grads"))
            grads = torch.autograd.grad(
                part, [*self.wanted, *also], factor, retain_graph=retain, create_graph=create, allow_unused=lenient
            )
            self._parts.append(grads[: len(self.wanted)])
            return _filled(grads[len(self.wanted) :], also)
        inputs = [*self.wanted, *also] if self.wanted else None
        torch.autograd.backward(part, factor, retain_graph=retain, create_graph=create, inputs=inputs)
        found = [leaf.grad for leaf in also]
        for leaf in also:
            leaf.grad = None
        return _filled(found, also)

    def result(self) -> Any:
        """Return what the original call returns: the summed gradients, or None for a backward call."""
        if not self.collects:
            return None
        sums: list[Tensor | None] = []
        for gradients in zip(*self._parts, strict=True):
            present = [g for g in gradients if g is not None]
            sums.append(sum(present[1:], start=present[0]) if present else None)
        if self.kwargs.get("materialize_grads"):
            return tuple(torch.zeros_like(w) if s is None else s for w, s in zip(self.wanted, sums, strict=True))
        return tuple(sums)

    def is_lone_scalar(self) -> bool:
        """Return whether the call differentiates one recorded tensor with factor one."""
        return len(self.roots) == 1 and self.weights[0] is None and isinstance(self.roots[0], Traced)


def _wanted(inputs: Any) -> list[Any]:
    return list(inputs.values()) if isinstance(inputs, dict) else _listed(inputs)


def _filled(gradients: Sequence[Tensor | None], like: Sequence[Tensor]) -> list[Tensor]:
    return [torch.zeros_like(x) if g is None else g for g, x in zip(gradients, like, strict=True)]
