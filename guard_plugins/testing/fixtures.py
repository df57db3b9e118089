"""Pytest fixtures for plugin authors; turn them on with ``-p guard_plugins.testing.fixtures`` in ``addopts``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from guard_plugins.artifacts.report import Report
from guard_plugins.config.layers import Layer
from guard_plugins.host.configure import resolve
from guard_plugins.pipeline.run import run
from guard_plugins.testing.tiny import TINY

TinyRun = Callable[..., tuple[Report, Path]]


@pytest.fixture
def tiny_run(tmp_path: Path) -> TinyRun:
    """Return a function that does a whole tiny run of an installed method and returns its report and folder.

    ``tiny_run("mine", mine={"iterations": 4})`` is ``guard-run --method mine --mine.iterations 4`` on a few digits.
    """

    def do(method: str, **settings: Any) -> tuple[Report, Path]:
        folder = tmp_path / f"{method}-{len(list(tmp_path.iterdir()))}"
        layers = [
            Layer("the tiny task", TINY, may_be_idle="yes"),
            Layer("settings", {**settings, "output": folder}, may_be_idle="no"),
        ]
        return run(resolve(method, layers)), folder

    return do
