"""Finding out which modules a function calls, so that their state can be put back."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def called_modules() -> Iterator[list[nn.Module]]:
    """Collect the outermost modules called in the body."""
    original, found, depth = nn.Module.__call__, [], 0  # type: ignore[var-annotated]

    @functools.wraps(original)
    def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        nonlocal depth
        if torch.compiler.is_compiling() or depth:
            return original(module, *args, **kwargs)
        found.append(module)
        depth += 1
        try:
            return original(module, *args, **kwargs)
        finally:
            depth -= 1

    nn.Module.__call__ = call  # type: ignore[method-assign]
    try:
        yield found
    finally:
        nn.Module.__call__ = original  # type: ignore[method-assign]


def modules_in(function: Callable[..., Any]) -> list[nn.Module]:
    """Return the modules a callable is or belongs to: a module, or a method such as ``net.forward``."""
    owner = getattr(function, "__self__", None)
    return [part for part in (function, owner) if isinstance(part, nn.Module)]
