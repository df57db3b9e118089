"""A tiny real task to try methods on: a few of the embedded digits, a small teacher, two images per class."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from guard_plugins.config import RunConfig
from guard_plugins.config.compose import compose
from guard_plugins.config.layers import Layer, merged
from guard_plugins.host import PluginHost
from guard_plugins.method import Method
from guard_plugins.runtime.engine import Engine
from guard_plugins.runtime.keeping.checkpoints import Checkpoints
from guard_plugins.runtime.keeping.keeper import Keeper
from guard_plugins.runtime.monitor import Monitor, Tracker
from guard_plugins.runtime.seeds import Seeds
from guard_plugins.runtime.task import Task

TINY: Final[Mapping[str, Any]] = {
    "dataset": "digits",
    "ipc": 2,
    "device": "cpu",
    "data": {"train_per_class": 12, "test_per_class": 2},
    "teacher": {"network": "small-resnet", "epochs": 1, "batch_size": 40},
    "student": {"epochs": 1},
    "evaluation": {"images": 10},
}
"""Settings of the tiny task; nesting as in the YAML file."""


class Listener(Monitor):
    """A silent monitor that remembers every loop.

    Attributes:
        loops: The progress of every loop begun so far.
    """

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.loops: list[Tracker] = []

    @contextlib.contextmanager
    def track(self, label: str, total: int, *, done: int = 0) -> Iterator[Tracker]:
        """Remember the loop."""
        with super().track(label, total, done=done) as tracker:
            self.loops.append(tracker)
            yield tracker

    @property
    def steps(self) -> int:
        """Units of progress reported so far."""
        return sum(loop.done for loop in self.loops)


def tiny_config(method: type[Method], settings: Mapping[str, Any]) -> RunConfig:
    """Return the configuration of a tiny run of ``method``.

    Args:
        method: The method.
        settings: Laid over :data:`TINY`; nesting as in the YAML file.

    Raises:
        ConfigError: If they are not valid.
    """
    return compose(method, [Layer("the tiny task", TINY), Layer("settings", settings)])


def tiny_task(method: type[Method], *, settings: Mapping[str, Any] | None = None) -> Task:
    """Return a task for tests: ten classes of digits (8x8 pixels, grey), two images per class, on the CPU.

    Args:
        method: The method whose options the configuration shall hold.
        settings: Laid over :data:`TINY`; nesting as in the YAML file.

    Raises:
        ConfigError: If they are not valid.
    """
    return build_task(tiny_config(method, settings or {}))


def build_task(config: RunConfig) -> Task:
    """Return the task of a configuration, silent, and saving nothing."""
    host = PluginHost(only=[config.method])
    data = host.datasets[config.dataset]().load(config.data_request())
    keeper = Keeper(Checkpoints(None, every=1e9))
    engine, seeds = Engine(config.device), Seeds(config.seed)
    return Task(
        config, data, engine, seeds, Listener(), host.networks, keeper, recipes=host.recipes,
        augmentations=host.augmentations,
    )  # fmt: skip


@dataclass(frozen=True)
class TinyTask:
    """The tiny task of one method, to be tried under several conditions.

    Attributes:
        method: The method.
        task: Its task under the first seed.
    """

    method: type[Method]
    task: Task

    @classmethod
    def of(cls, method: type[Method], settings: Mapping[str, Any]) -> TinyTask:
        """Return the tiny task of a method."""
        return cls(method, tiny_task(method, settings=settings))

    def instance(self) -> Method:
        """Return the method with the options of the task, as the host makes it."""
        config = self.task.config
        own = {name: getattr(config, name) for name in self.method.Config.model_fields}
        return self.method(self.method.Config.model_validate(own))

    def having(self, keeper: Keeper | None = None, **changes: Any) -> TinyTask:
        """Return the same with other settings (nesting as in the YAML file), or another keeper of its state."""
        values = merged(self.task.config.model_dump(), changes)
        config = type(self.task.config).model_validate(values)
        # A keeper of its own, so that nothing an earlier trial kept is found again.
        keeper = keeper or Keeper(Checkpoints(None, every=1e9))
        task = replace(self.task, config=config, seeds=Seeds(config.seed), monitor=Listener(), keeper=keeper)
        return replace(self, task=task)

    @property
    def listener(self) -> Listener:
        """What heard its loops."""
        monitor = self.task.monitor
        assert isinstance(monitor, Listener)
        return monitor
