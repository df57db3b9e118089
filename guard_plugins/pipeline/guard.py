"""Puts the curvature hook around the functions a method wants guarded, without the method knowing."""

from __future__ import annotations

from typing import Any

from guard_plugins.artifacts.parts import HookReport
from guard_plugins.config import GuardConfig
from guard_plugins.curvature import CurvatureHook
from guard_plugins.errors import PluginError
from guard_plugins.method import Method


def build_hook(settings: GuardConfig) -> CurvatureHook:
    """Return the hook the settings describe."""
    return CurvatureHook(
        h=settings.h, h_rms=settings.h_rms, weight=settings.weight, penalty=settings.penalty, every=settings.every
    )


def wrap_guarded(method: Method, hook: CurvatureHook) -> None:
    """Wrap the functions named in ``method.guarded`` with ``hook``, on this instance only.

    Raises:
        PluginError: If the method names a function it does not have.
    """
    for name in method.guarded:
        function: Any = getattr(method, name, None)
        if not callable(function):
            raise PluginError(
                f"The method {method.name!r} wants {name!r} guarded, but has no such function",
                do=f"Its authors must correct `guarded` of {type(method).__module__}.{type(method).__qualname__}.",
            )
        setattr(method, name, hook(function))


def hook_report(hook: CurvatureHook | None) -> HookReport | None:
    """Return what the hook measured, or None where there is no hook or it never had anything to do."""
    if hook is None:
        return None
    summary = hook.summary()
    if summary.mean_loss is None:
        return None
    return HookReport(
        steps=summary.steps, regularised_steps=summary.regularised_steps, mean_loss=summary.mean_loss,
        mean_term=summary.mean_term, mean_gradient_norm=summary.mean_gradient_norm,
        mean_curvature=summary.mean_curvature,
    )  # fmt: skip
