"""What a hook changes in PyTorch while it is active, and how it is changed back."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode, _pop_mode, _push_mode

from guard_plugins.curvature.engine import Engine
from guard_plugins.curvature.session import Session


class Patch:
    """Shows model calls, torch functions and backward calls of a loop to a session, until ``remove``.

    Args:
        session: The session to show them to.
    """

    def __init__(self, session: Session) -> None:
        self._original = nn.Module.__call__
        self._engine = Engine(session.backward, session.quiet)
        self._mode = _Listening(session)
        nn.Module.__call__ = _patched(self._original, session, self._mode)  # type: ignore[method-assign]
        self._engine.install()
        self._mode.__enter__()

    def remove(self) -> None:
        """Leave PyTorch as it was found."""
        nn.Module.__call__ = self._original  # type: ignore[method-assign]
        self._engine.remove()
        _take_out(self._mode)


class _Listening(TorchFunctionMode):
    """Hands every torch function the loop calls itself to the session's tracer."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.compiler.is_compiling() or self._session.recorder.depth or self._session.quiet():
            return func(*args, **(kwargs or {}))
        return self._session.tracer.run(func, args, kwargs or {})


def _patched(original: Callable[..., Any], session: Session, mode: TorchFunctionMode) -> Callable[..., Any]:
    @functools.wraps(original)
    def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling() or session.recorder.depth or session.quiet():
            return original(module, *args, **kwargs)
        return session.recorder.call(original, module, args, kwargs)

    return call


def _take_out(mode: TorchFunctionMode) -> None:
    """Remove ``mode`` from the stack, wherever it is: the loop may have entered modes of its own and not left them."""
    above = []
    while torch._C._len_torch_function_stack():
        top = _pop_mode()
        if top is mode:
            break
        above.append(top)
    for other in reversed(above):
        _push_mode(other)
