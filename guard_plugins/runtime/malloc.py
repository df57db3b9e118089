"""Memory of commands: what becomes of freed blocks, and how often garbage is looked for."""

from __future__ import annotations

import atexit
import contextlib
import gc
from collections.abc import Iterator
from typing import Final

M_TRIM_THRESHOLD: Final = -1
M_MMAP_THRESHOLD: Final = -3
LARGEST: Final = 32 * 2**20
"""The largest block glibc keeps in its heap, in bytes (DEFAULT_MMAP_THRESHOLD_MAX on 64-bit systems)."""
RARER: Final = 100
"""How many times as rare the searches through all objects become."""


def keep_freed_memory() -> bool:
    """Let the C library keep freed blocks of up to 32 MiB for the next ones, and say whether it does (glibc only).

    By default it returns the pages of activations to the system when they are freed, which clears new ones for the next
    step: one of the small ResNet (batch 64, one core) takes 77 ms that way and 64 ms this way.
    """
    import ctypes  # a listing does without

    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return all(
        mallopt(name, value) == 1 for name, value in ((M_MMAP_THRESHOLD, LARGEST), (M_TRIM_THRESHOLD, 2**31 - 1))
    )


@contextlib.contextmanager
def few_full_searches() -> Iterator[None]:
    """Search through all objects of the process more rarely in the body, and not once more at the process's end.

    PyTorch's modules are hundreds of thousands of objects, none of them garbage. Searches through them took more than a
    second of a short run: while it is imported, and at the end. Searches through young objects stay as frequent.
    """
    young, middle, old = gc.get_threshold()
    gc.set_threshold(young, middle, RARER * old)
    atexit.register(gc.freeze)  # the last search then passes over whatever there is
    try:
        yield
    finally:
        gc.set_threshold(young, middle, old)
