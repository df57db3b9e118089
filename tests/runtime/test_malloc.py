"""Freed memory is kept where the C library can be told to; full searches for garbage are rare in a command."""

from __future__ import annotations

import ctypes
import gc
import platform
import subprocess
import sys

import pytest

from guard_plugins.runtime import malloc
from guard_plugins.runtime.malloc import RARER, few_full_searches

MEASURE = """
import resource, sys, torch
from pathlib import Path
from guard_plugins.runtime.malloc import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
before = resident()
[torch.ones(2**21) for _ in range(16)]  # as a forward pass: 16 blocks of 8 MiB, freed together
print((resident() - before) / 2**20)
"""


def mebibytes_kept(mode: str) -> float:
    done = subprocess.run([sys.executable, "-c", MEASURE, mode], capture_output=True, text=True, check=True)
    return float(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_freed_tensors_stay_with_the_process() -> None:
    assert mebibytes_kept("leave") < 40
    assert mebibytes_kept("keep") > 90


def test_other_c_libraries_are_left_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert malloc.keep_freed_memory() is False


AT_THE_END = """
import atexit, gc
from guard_plugins.runtime.malloc import few_full_searches
atexit.register(lambda: print(gc.get_freeze_count() > 0))  # the last that is called
with few_full_searches():
    pass
print(gc.get_freeze_count())
"""


def test_full_searches_are_rarer_in_the_body_only() -> None:
    before = gc.get_threshold()
    with few_full_searches():
        within = gc.get_threshold()
    assert within == (*before[:2], RARER * before[2])
    assert gc.get_threshold() == before


def test_the_search_at_the_end_passes_over_what_is_there() -> None:
    done = subprocess.run([sys.executable, "-c", AT_THE_END], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "True"]
