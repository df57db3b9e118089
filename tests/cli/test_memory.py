"""Freed memory is kept where the C library can be told to."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys

import pytest

from guard_plugins.cli import memory

COUNT_FAULTS = """
import resource, sys, torch
from guard_plugins.cli.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def step():
    [torch.ones(2**21) for _ in range(16)]  # as a forward pass: 16 blocks of 8 MiB, freed together
step()
before = faults()
for _ in range(10):
    step()
print(faults() - before)
"""


def count_faults(mode: str) -> int:
    done = subprocess.run([sys.executable, "-c", COUNT_FAULTS, mode], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_repeated_tensors_get_no_fresh_pages() -> None:
    assert count_faults("keep") * 4 < count_faults("leave")


def test_other_c_libraries_are_left_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert memory.keep_freed_memory() is False
