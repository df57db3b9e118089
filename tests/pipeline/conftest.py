"""A whole run, small enough for a test."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from guard_plugins import Report, run
from guard_plugins.config.layers import Layer
from guard_plugins.host.configure import resolve

TINY = {
    "ipc": 1,
    "teacher": {"epochs": 1},
    "student": {"epochs": 2},
    "evaluation": {"images": 20},
    "checkpoint_every": 1e9,
}


def do_tiny_run(folder: Path, method: str, **settings: Any) -> tuple[Report, Path]:
    """Do a tiny run of a method on digits and return its report and folder."""
    own = {"recover": {"iterations": 3}} if method == "sre2l" else {}
    layers = [
        Layer("the tiny run", {**TINY, **own}, may_be_idle="yes"),
        Layer("settings", {**settings, "output": folder}, may_be_idle="no"),
    ]
    return run(resolve(method, layers)), folder


@pytest.fixture
def tiny_run(tmp_path: Path) -> Callable[..., tuple[Report, Path]]:
    """Return a function that does a tiny run in a folder of the given name."""
    return lambda method, name, **settings: do_tiny_run(tmp_path / name, method, **settings)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of one uninterrupted tiny SRe2L run; tests only read it."""
    return do_tiny_run(tmp_path_factory.mktemp("whole") / "run", "sre2l")[1]


def largest_gap(one: nn.Module, other: nn.Module) -> float:
    """Return the largest difference of two networks' weights."""
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max(float((a - b).abs().max().detach()) for a, b in pairs)


def numbers(folder: Path) -> dict[str, Any]:
    """Return a run's report without its times."""
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    del report["seconds"], report["saves"]
    return report
