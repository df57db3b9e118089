"""What a hook changes in PyTorch while it is active, and how it is changed back."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from guard_plugins.curvature.session import Session
from guard_plugins.curvature.traced import Traced


class Patch:
    """Shows outermost module calls to a session, from construction to ``remove``.

    Args:
        session: The session to show them to.
    """

    def __init__(self, session: Session) -> None:
        self._original = nn.Module.__call__
        self._opaque = _opaque_to_the_compiler()
        if self._opaque is not None:
            self._opaque.add(Traced)
        nn.Module.__call__ = _patched(self._original, session)  # type: ignore[method-assign]

    def remove(self) -> None:
        """Leave PyTorch as it was found."""
        nn.Module.__call__ = self._original  # type: ignore[method-assign]
        if self._opaque is not None:
            self._opaque.discard(Traced)


def _patched(original: Callable[..., Any], session: Session) -> Callable[..., Any]:
    @functools.wraps(original)
    def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling() or session.recorder.depth or session.quiet():
            return original(module, *args, **kwargs)
        return session.recorder.call(original, module, args, kwargs)

    return call


def _opaque_to_the_compiler() -> set[type] | None:
    """Return the compiler's list of tensor classes it must not look into, if a compiler is loaded.

    Without it a compiled loss function would fail deep inside the compiler, not with the hook's explanation.
    """
    config = sys.modules.get("torch._dynamo.config")
    return getattr(config, "nontraceable_tensor_subclasses", None)
