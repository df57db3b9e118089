"""The words for mistakes in writing the hook down."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from torch import nn

from guard_plugins.errors import ConfigError


def settings_without_names(value: object) -> ConfigError:
    """Return the error for ``@CurvatureHook`` without parentheses, or a setting without its name."""
    if callable(value):
        return ConfigError(
            "CurvatureHook needs its settings before it can decorate",
            seen=f"CurvatureHook({_title(value)})",
            do="write @CurvatureHook(h=...) above the function, or `with CurvatureHook(h=...):` around the training",
        )
    return ConfigError(
        "the settings of CurvatureHook are given by name",
        seen=f"CurvatureHook({value!r})",
        do=f"write CurvatureHook(h={value!r})",
    )


def cannot_wrap(value: object) -> ConfigError | None:
    """Return the error for ``hook(value)`` where ``value`` cannot be wrapped, or None."""
    if isinstance(value, (classmethod, staticmethod)):
        kind = type(value).__name__
        return ConfigError(
            f"the hook cannot decorate a {kind} object",
            seen=f"@hook above @{kind}",
            do=f"write @{kind} above @hook",
        )
    if isinstance(value, nn.Module) or not isinstance(value, Callable):  # type: ignore[arg-type]
        return ConfigError(
            "hook(...) wraps a function that trains, not a model",
            seen=f"hook({_title(value)})",
            do="write `with hook:` around the training, or @hook above the function that trains; "
            "CurvatureHook(model=...) names the model whose input is x",
        )
    if inspect.isgeneratorfunction(value) or inspect.iscoroutinefunction(value):
        return ConfigError(
            "the hook cannot decorate a generator or coroutine function",
            seen=_title(value),
            do="use `with hook:` around the training inside it",
        )
    return None


def _title(value: object) -> str:
    return getattr(value, "__qualname__", None) or f"a {type(value).__name__}"
