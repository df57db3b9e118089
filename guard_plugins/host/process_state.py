"""What of the process all plugins share, compared around the loading of one and put back where it changed."""

from __future__ import annotations

import builtins
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any, Final

from guard_plugins.host.python_state import Surroundings, python_functions, python_settings
from guard_plugins.host.torch_state import Setting, numpy_settings, torch_functions, torch_settings

SIGNALS: Final = ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM")


class ProcessState:
    """The state of the process when this object is made; :meth:`restore` puts it back."""

    def __init__(self) -> None:
        self._around = Surroundings()
        settings = [*_of_python(), *python_settings(), *torch_settings(), *numpy_settings()]
        self._before = [(setting, setting.read()) for setting in settings]
        self._functions = [*torch_functions(), *python_functions()]
        self._filters = list(warnings.filters)

    def restore(self) -> list[str]:
        """Put back what changed, and return what that was, in words."""
        changed = self._around.restore()
        for setting, before in self._before:
            now = setting.read()
            if now != before:
                setting.write(before)
                plain = all(isinstance(value, (bool, int, str)) for value in (before, now))
                changed.append(f"{setting.name} ({before} to {now})" if plain else setting.name)
        changed = [*filter(None, changed), *(name for owner in self._functions for name in owner.restore())]
        if self._filters_spoilt():
            changed.append("the warnings filters")
        return changed

    def _filters_spoilt(self) -> bool:
        """Put the filters back where all warnings were silenced, or other filters removed.

        A library may add a filter for warnings of its own.
        """
        added = [entry for entry in warnings.filters if entry not in self._filters]
        narrow = [entry for entry in added if entry[2] is not Warning or entry[1] is not None or entry[3] is not None]
        if len(narrow) == len(added) and all(entry in warnings.filters for entry in self._filters):
            return False
        warnings.resetwarnings()  # tells the interpreter, too, that they changed
        filters: Any = warnings.filters
        filters[:] = [*narrow, *self._filters]
        return True


def _of_python() -> list[Setting]:
    settings = [
        Setting(f"sys.{name}", _reader(sys, name), _writer(sys, name)) for name in ("stdout", "stderr", "excepthook")
    ]
    settings += [
        Setting("the built-in print", _reader(builtins, "print"), _writer(builtins, "print")),
        Setting("", random.getstate, random.setstate),  # honest imports draw from it as well
        Setting("the working folder", os.getcwd, os.chdir),
    ]
    if threading.current_thread() is threading.main_thread():
        for number in [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]:
            settings.append(Setting(f"the handler of {number.name}", *_handler(number)))
    return settings


def _handler(number: signal.Signals) -> tuple[Callable[[], Any], Callable[[Any], None]]:
    def write(value: Any) -> None:
        signal.signal(number, value)

    return lambda: signal.getsignal(number), write


def _reader(owner: Any, name: str) -> Callable[[], Any]:
    return lambda: getattr(owner, name)


def _writer(owner: Any, name: str) -> Callable[[Any], None]:
    return lambda value: setattr(owner, name, value)
