"""Replacing ``nn.Module.__call__`` while a hook is active."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from guard_plugins.curvature.session import Session


def patched_call(original: Callable[..., Any], session: Session) -> Callable[..., Any]:
    """Return a ``__call__`` that shows outermost module calls to ``session``."""

    @functools.wraps(original)
    def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling() or session.recorder.depth or session.quiet():
            return original(module, *args, **kwargs)
        return session.recorder.call(original, module, args, kwargs)

    return call
