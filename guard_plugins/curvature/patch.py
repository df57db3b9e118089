"""What a hook changes in PyTorch while it is active, and how it is changed back."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.autograd import Function, Variable
from torch.optim import Optimizer

from guard_plugins.curvature.record.backward_call import BackwardCall
from guard_plugins.curvature.record.listening import Listening
from guard_plugins.curvature.session import Session
from guard_plugins.errors import HookError


class Patch:
    """Shows model calls, torch functions and backward calls of a loop to a session, until ``remove``.

    Args:
        session: The session to show them to.
    """

    def __init__(self, session: Session) -> None:
        self._call, self._zero = nn.Module.__call__, Optimizer.zero_grad
        self._own_cast = Tensor.__dict__.get("as_subclass")
        self._apply = Function.__dict__["apply"]
        self._engine = AutogradEngine(session.backward, session.quiet)
        self._listening = session.listening
        nn.Module.__call__ = _calling(self._call, session)  # type: ignore[method-assign]
        Optimizer.zero_grad = _unheard(self._zero, session.listening)  # type: ignore[method-assign]
        Function.apply = _applying(self._apply, session)
        Tensor.as_subclass = _casting(Tensor.as_subclass, session)  # type: ignore[method-assign]
        self._engine.install()
        self._listening.start()

    def remove(self) -> None:
        """Leave PyTorch as it was found."""
        nn.Module.__call__ = self._call  # type: ignore[method-assign]
        Optimizer.zero_grad = self._zero  # type: ignore[method-assign]
        Function.apply = self._apply
        if self._own_cast is None:
            del Tensor.as_subclass
        else:
            Tensor.as_subclass = self._own_cast  # type: ignore[method-assign]
        self._engine.remove()
        self._listening.stop()


_DEEPEST: Final = 50
"""Backward calls within each other; nested checkpoints come to a few."""


class AutogradEngine:
    """Stands before autograd's engine: ``backward``, ``autograd.backward`` and ``autograd.grad`` all end here.

    Args:
        answer: Runs a backward call of the loop.
        quiet: Tells whether a call is none of the hook's business.
    """

    def __init__(self, answer: Callable[[BackwardCall], Any], quiet: Callable[[], bool]) -> None:
        self._engine: Any = Variable._execution_engine
        self._answer, self._quiet, self._depth = answer, quiet, 0

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
            self._depth += 1
            try:
                if self._depth > _DEEPEST:
                    raise _endless()
                return self._engine.run_backward(
                    tensors, grad_tensors, keep_graph, create_graph, inputs,
                    allow_unreachable=allow_unreachable, accumulate_grad=accumulate_grad,
                )  # fmt: skip
            finally:
                self._depth -= 1
        call = BackwardCall(
            self._engine, tuple(tensors), tuple(grad_tensors), bool(keep_graph), bool(create_graph), tuple(inputs),
            allow_unreachable, accumulate_grad,
        )  # fmt: skip
        return self._answer(call)


def _endless() -> HookError:
    return HookError(
        "a gradient hook calls backward within itself without end",
        seen=f"{_DEEPEST} backward calls within each other",
        do="the usual cause is a module that sets the hook in forward, and in backward removes the one it keeps in an "
        "attribute: that is another call's under the curvature hook. Let the hook differentiate a graph of its own, "
        "z0 = z.detach().requires_grad_(); f0 = f(z0), which has no hook to remove",
    )


def _calling(original: Callable[..., Any], session: Session) -> Callable[..., Any]:
    @functools.wraps(original)
    def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling() or session.recorder.depth:
            return original(module, *args, **kwargs)
        if session.quiet():
            if session.recomputing():
                args, kwargs = session.sources.as_received(args, kwargs)
            return original(module, *args, **kwargs)
        return session.recorder.call(original, module, args, kwargs)

    return call


def _unheard(original: Callable[..., Any], listening: Listening) -> Callable[..., Any]:
    """Return ``original`` so that its many small operations, which tell nothing about x, are not listened to."""

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        with listening.off():
            return original(*args, **kwargs)

    return call


def _applying(original: Any, session: Session) -> Any:
    """Return ``Function.apply`` so that it is known what the results of custom functions come from."""

    def apply(cls: type[Function], *args: Any, **kwargs: Any) -> Any:
        result = original.__get__(None, cls)(*args, **kwargs)
        if not (torch.compiler.is_compiling() or session.recorder.depth or session.quiet()):
            with session.listening.off():
                session.tracer.note_custom(args, result)
        return result

    return classmethod(apply)


def _casting(original: Callable[..., Any], session: Session) -> Callable[..., Any]:
    """Return ``Tensor.as_subclass``, which PyTorch shows to no mode, so that a recorded tensor stays one."""

    @functools.wraps(original)
    def as_subclass(tensor: Tensor, kind: Any) -> Any:
        if torch.compiler.is_compiling() or session.recorder.depth or session.quiet():
            return original(tensor, kind)
        with session.listening.off():
            return session.tracer.run(original, (tensor, kind), {})

    return as_subclass
