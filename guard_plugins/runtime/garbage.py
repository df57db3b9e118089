"""Python's search for garbage in cycles, in a process that imports PyTorch."""

from __future__ import annotations

import atexit
import contextlib
import gc
from collections.abc import Iterator
from typing import Final

RARER: Final = 100
"""How many times as rare the searches through all objects become."""


@contextlib.contextmanager
def few_full_searches() -> Iterator[None]:
    """Search through all objects of the process more rarely in the body, and not once more at the process's end.

    PyTorch's modules are half a million objects, none of them garbage. Searches through them take 0.6 s while it is
    imported and 0.4 s when the process ends. Searches through young objects stay as frequent as they are.
    """
    young, middle, old = gc.get_threshold()
    gc.set_threshold(young, middle, RARER * old)
    atexit.register(gc.freeze)  # the last search then passes over whatever there is
    try:
        yield
    finally:
        gc.set_threshold(young, middle, old)
