"""Threads, workers and fixtures of all tests."""

from __future__ import annotations

import os

# One thread in every test process, and in the processes that tests start. This has to stand before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from hypothesis import settings

MOST_WORKERS = 8

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@pytest.hookimpl(tryfirst=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return one worker per available core; 0, this very process, for one core or where single tests are named."""
    if config.args and all("::" in argument for argument in config.args):
        return 0
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(available, MOST_WORKERS) if available > 1 else 0


@pytest.fixture(autouse=True)
def _no_plugin_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GUARD_PLUGINS", "GUARD_STRICT_PLUGINS"):
        monkeypatch.delenv(name, raising=False)
    torch.manual_seed(0)
