from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from guard_plugins.data.base import Data
from guard_plugins.data.splits import TensorSplit
from guard_plugins.host import PluginHost
from guard_plugins.host.configure import configure
from guard_plugins.runtime.engine import Engine
from guard_plugins.runtime.keeping.checkpoints import Checkpoints
from guard_plugins.runtime.keeping.keeper import Keeper
from guard_plugins.runtime.monitor import Monitor
from guard_plugins.runtime.seeds import Seeds
from guard_plugins.runtime.task import Task

MakeTask = Callable[..., Task]


@pytest.fixture(scope="session")
def host() -> PluginHost:
    return PluginHost()


@pytest.fixture
def tiny_data() -> Data:
    """Three classes of six 8x8 colour images each."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(3).repeat(6)
    pixels = torch.rand((18, 3, 8, 8), generator=generator) * 0.5 + labels.view(-1, 1, 1, 1) / 6
    split = TensorSplit(pixels, labels)
    return Data("tiny", split, split, ("a", "b", "c"), (0.5, 0.4, 0.6), (0.2, 0.3, 0.25), (3, 8, 8))


@pytest.fixture
def make_task(host: PluginHost, tiny_data: Data) -> MakeTask:
    """Return a function from a method's name and settings to a task on the tiny data."""

    def make(method: str, *, seed: int = 0, **settings: Any) -> Task:
        config = configure(method, seed=seed, device="cpu", **settings)
        keeper = Keeper(Checkpoints(None, every=1e9))
        return Task(config, tiny_data, Engine("cpu"), Seeds(seed), Monitor(quiet=True), host.networks, keeper)

    return make
