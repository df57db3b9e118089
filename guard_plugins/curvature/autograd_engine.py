"""The one place through which every backward call of the process goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.autograd import Variable

from guard_plugins.curvature.backward_call import BackwardCall


class AutogradEngine:
    """Stands before autograd's engine: ``backward``, ``autograd.backward`` and ``autograd.grad`` all end here.

    Args:
        answer: Runs a backward call of the loop.
        quiet: Tells whether a call is none of the hook's business.
    """

    def __init__(self, answer: Callable[[BackwardCall], Any], quiet: Callable[[], bool]) -> None:
        self._engine: Any = Variable._execution_engine
        self._answer, self._quiet = answer, quiet

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def install(self) -> None:
        """Take the engine's place."""
        Variable._execution_engine = self  # type: ignore[assignment]

    def remove(self) -> None:
        """Put the engine back."""
        Variable._execution_engine = self._engine

    def run_backward(
        self,
        tensors: tuple[Any, ...],
        grad_tensors: tuple[Any, ...],
        keep_graph: bool,
        create_graph: bool,
        inputs: tuple[Any, ...] = (),
        allow_unreachable: bool = False,
        accumulate_grad: bool = False,
    ) -> Any:
        """Answer one call; the parameters are those of PyTorch's own engine."""
        if self._quiet():
            return self._engine.run_backward(
                tensors, grad_tensors, keep_graph, create_graph, inputs,
                allow_unreachable=allow_unreachable, accumulate_grad=accumulate_grad,
            )  # fmt: skip
        call = BackwardCall(
            self._engine, tuple(tensors), tuple(grad_tensors), bool(keep_graph), bool(create_graph), tuple(inputs),
            allow_unreachable, accumulate_grad,
        )  # fmt: skip
        return self._answer(call)
