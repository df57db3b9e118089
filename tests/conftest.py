"""Fixtures shared by all tests."""

from __future__ import annotations

import pytest
import torch
from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def _no_plugin_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GUARD_PLUGINS", "GUARD_STRICT_PLUGINS"):
        monkeypatch.delenv(name, raising=False)
    torch.manual_seed(0)
