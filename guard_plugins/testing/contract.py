"""The contract every method keeps, as one call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from guard_plugins.host import PluginHost
from guard_plugins.method import Method
from guard_plugins.runtime.seeds import preserved_streams
from guard_plugins.testing import behaviour
from guard_plugins.testing.declaration import check_declaration, check_options
from guard_plugins.testing.previews import check_preview
from guard_plugins.testing.tiny import TinyTask
from guard_plugins.testing.trial import run_trial


def check_method(method: type[Method], *, settings: Mapping[str, Any] | None = None, instant: bool = False) -> None:
    """Run the whole contract on a tiny real task: a few embedded digits, a small teacher, on the CPU, in seconds.

    Args:
        method: The method's class; it need not be installed.
        settings: Settings that make it quick, such as ``{"mine": {"iterations": 4}}``; nesting as in the YAML file.
        instant: ``distill`` does no work worth a progress bar, so it need not report any.

    Raises:
        BrokenPromiseError: If a promise is broken; its ``promise`` says which, its text what was seen.
    """
    settings = settings or {}
    check_declaration(method)
    check_options(method, settings)
    with preserved_streams():
        tiny = TinyTask.of(method, settings)
        first = run_trial(tiny, ambient=1)
        behaviour.check_guarded(first)
        behaviour.check_set(first)
        behaviour.check_progress(first, instant=instant)
        behaviour.check_state(first)
        behaviour.check_seed(first)
        behaviour.check_teacher_resume(first)
        behaviour.check_resume(first)
        check_preview(first)
        behaviour.check_streams(first)
        behaviour.check_errors(first)


def check_installed(name: str) -> None:
    """Check that the installed method ``name`` is found through its entry point and can be loaded.

    Raises:
        GuardError: If it is not installed, clashes with another one or is broken.
    """
    PluginHost(only=[name]).method(name)
