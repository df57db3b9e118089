"""Pretended distributions, so that plugins of every kind can be "installed" for one test."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import Distribution, EntryPoint, entry_points
from pathlib import Path
from typing import Any

import pytest

Install = Callable[..., None]


class PretendedDistribution(Distribution):
    """A distribution that has a name and a version and nothing else."""

    def __init__(self, name: str, version: str) -> None:
        self._name, self._version = name, version

    @property
    def name(self) -> str:
        return self._name

    @property
    def version(self) -> str:
        return self._version

    def read_text(self, filename: str) -> str | None:
        return None

    def locate_file(self, path: Any) -> Any:
        raise NotImplementedError


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Install]:
    """Return a function that installs one module of source code as a plugin."""
    catalogue = importlib.import_module("guard_plugins.host.discovery")
    points = list(entry_points(group="guard_plugins"))
    modules: list[str] = []
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(catalogue, "entry_points", lambda group: tuple(points))

    def add(name: str, source: str, *, distribution: str | None = None, version: str = "1.0") -> None:
        distribution = distribution or f"guard-{name}"
        module = f"pretended_{distribution.replace('-', '_')}_{name}"
        (tmp_path / f"{module}.py").write_text(source)
        modules.append(module)
        importlib.invalidate_caches()
        point = EntryPoint(name, module, "guard_plugins")
        vars(point)["dist"] = PretendedDistribution(distribution, version)
        points.append(point)

    yield add
    for module in modules:
        sys.modules.pop(module, None)
