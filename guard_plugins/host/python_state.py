"""What of Python itself a plugin may change for everybody: variables, imports, and functions that all code calls."""

from __future__ import annotations

import builtins
import gc
import json
import logging
import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from guard_plugins.host.torch_state import Functions, Setting

OURS: Final = "GUARD_"
"""Begins the variables that this project reads."""


def python_settings() -> Iterator[Setting]:
    """Yield the settings of the interpreter."""
    yield Setting("the recursion limit", sys.getrecursionlimit, sys.setrecursionlimit)
    yield Setting("the garbage collector", gc.isenabled, lambda on: gc.enable() if on else gc.disable())
    yield Setting("the switch interval of threads", sys.getswitchinterval, sys.setswitchinterval)
    yield Setting("sys.settrace", sys.gettrace, sys.settrace)
    yield Setting("sys.setprofile", sys.getprofile, sys.setprofile)
    yield Setting("logging.disable", lambda: logging.root.manager.disable, logging.disable)


def python_functions() -> list[Functions]:
    """Return the modules and classes of Python whose functions everybody calls."""
    import numpy as np

    owners = (builtins, os, json, random, Path, np.random)
    return [Functions(owner, Path(json.__file__).parent) for owner in owners]


class Surroundings:
    """Variables and imports, as they are when this object is made."""

    def __init__(self) -> None:
        self._environ, self._modules = dict(os.environ), dict(sys.modules)
        self._path, self._finders = [*sys.path], [*sys.meta_path]

    def restore(self) -> list[str]:
        """Put back what changed for others, and return what that was, in words.

        A plugin may add variables, folders to import from and finders of its own; the two latter come last.
        """
        changed = [f"the variable {name}" for name in self._put_back_variables()]
        sys.path[:] = _own_last(self._path, sys.path)
        sys.meta_path[:] = _own_last(self._finders, sys.meta_path)
        return changed + [f"sys.modules[{name!r}]" for name in self._put_back_modules()]

    def _put_back_variables(self) -> list[str]:
        names = [name for name, value in self._environ.items() if os.environ.get(name) != value]
        added = [name for name in os.environ if name.startswith(OURS) and name not in self._environ]
        for name in added:
            del os.environ[name]
        os.environ.update({name: self._environ[name] for name in names})
        return [*names, *added]

    def _put_back_modules(self) -> list[str]:
        known: dict[str, Any] = {**sys.modules}
        blocked = [name for name, module in known.items() if module is None and name not in self._modules]
        for name in blocked:
            del sys.modules[name]
        spoilt = [name for name, module in self._modules.items() if known.get(name) is not module]
        sys.modules.update({name: self._modules[name] for name in spoilt})
        return [*spoilt, *blocked]


def _own_last(before: list[Any], now: list[Any]) -> list[Any]:
    return [*before, *(entry for entry in now if not any(entry is old or entry == old for old in before))]


def at_exit_to_stderr(register: Callable[..., Any], redirected: Callable[[], Any]) -> Callable[..., Any]:
    """Return ``atexit.register`` for a plugin: what its functions print at the end goes to stderr.

    Args:
        register: The original.
        redirected: Returns a context in which stdout is stderr.
    """

    def registered(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Callable[..., Any]:
        def call() -> None:
            with redirected():
                function(*args, **kwargs)

        register(call)
        return function

    return registered
