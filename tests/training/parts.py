"""A teacher in float64, trained by one process and by several at once: what the tests of parts compare."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from guard_plugins import configure
from guard_plugins.curvature import CurvatureHook
from guard_plugins.curvature.objective import processes
from guard_plugins.curvature.replay import delivery
from guard_plugins.data.base import Data, Split
from guard_plugins.runtime.engine import Engine
from guard_plugins.runtime.keeping.checkpoints import Checkpoints
from guard_plugins.runtime.keeping.keeper import Keeper
from guard_plugins.runtime.monitor import Monitor
from guard_plugins.runtime.seeds import Seeds
from guard_plugins.runtime.sharing.team import Team
from guard_plugins.runtime.task import Task
from guard_plugins.training.teacher import train_supervised
from tests.curvature.worlds import changes, small_net

H = 4.0
"""So long that the wavy loss rises along z for one part of a batch and falls for another."""
HOOKS: dict[str, dict[str, Any]] = {
    "weight 1": {"weight": 1.0}, "weight 2": {"weight": 2.0}, "every 2": {"weight": 4.0, "every": 2},
    "gradient": {"weight": 0.5, "penalty": "gradient"}, "running": {"weight": 1.0, "norm_stats": "running"},
}  # fmt: skip
RIVALS = ("plain", "fgsm-rs", "pgd", "trades", "gradient-norm")


class Precise(Split):
    """Images of 6x6 pixels in float64."""

    from_files = False

    def __init__(self, count: int) -> None:
        g = torch.Generator().manual_seed(1)
        self._images = torch.rand(count, 1, 6, 6, generator=g, dtype=torch.float64)
        self.labels = torch.arange(count) % 4

    def images(self, index: Tensor) -> Tensor:
        return self._images[index]


class Wavy(nn.Module):
    """A network whose loss a long step uphill may lower."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.net = small_net()
        for module in self.net.modules():
            if isinstance(module, nn.ReLU):  # its kinks would enlarge rounding
                module.__class__ = nn.SiLU
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        out = self.net(x)
        return out + torch.cos(4 * out)


def task_of(steps: int, *, batch: int, team: Team | None, folder: Any = None, **teacher: Any) -> Task:
    """Return the task of a teacher that is trained for some steps."""
    options = {"epochs": 1, "batch_size": batch, "lr": 0.002, "augment": "crop-flip", **teacher}
    local = options.pop("batchnorm", "global")
    config = configure("sre2l", dataset="digits", ipc=1, device="cpu", teacher=options)
    config = config.model_copy(update={"teacher": config.teacher.model_copy(update={"batchnorm": local})})
    split = Precise(steps * batch)
    data = Data(name="precise", train=split, test=split, classes=("a", "b", "c", "d"), mean=(0.0,), std=(1.0,),
                image_shape=(1, 6, 6))  # fmt: skip
    keeper = Keeper(Checkpoints(folder, every=math.inf), team=team)
    return Task(config, data, Engine("cpu"), Seeds(0), Monitor(quiet=True), {}, keeper)


def trained(task: Task, hook: CurvatureHook | None) -> nn.Module:
    """Return a teacher trained by the host's own loop."""
    model = Wavy()
    train = train_supervised if hook is None else hook(train_supervised)
    train(task, model)
    return model


@contextmanager
def signs(team: Team, *, local: bool) -> Iterator[list[bool]]:
    """Note at each step whether the differences of the processes have opposite signs; ``local`` leaves each its own."""
    mean, meet, opposite = processes.mean_over, delivery._must_meet, list[bool]()

    def watched(group: Any, value: Tensor) -> Tensor:
        if group is None or value.dim():
            return mean(group, value)
        sign = int(value.detach().sign())
        most, least = team.largest(sign, -sign)
        opposite.append(most == 1 and least == 1)
        found = mean(group, value)
        return value.detach() if local else found

    processes.mean_over = delivery.mean_over = watched
    if local:  # in one pass: processes that differ in their sign would differ in the number of passes
        delivery._must_meet = lambda step: True
    try:
        yield opposite
    finally:
        processes.mean_over = delivery.mean_over = mean
        delivery._must_meet = meet


def gap(
    team: Team, steps: int, *, hook: dict[str, Any] | None = None, local: bool = False, batch: int = 8, **teacher: Any
) -> tuple[float, bool, float]:
    """Compare a team with one process.

    Returns:
        The largest difference of weights and buffers over the movement, whether signs were opposite at a step, and the
        largest relative difference of what the hook measured.
    """
    build: Callable[[], CurvatureHook | None] = lambda: None if hook is None else CurvatureHook(h=H, **hook)  # noqa: E731
    start, mine, theirs = copy.deepcopy(Wavy().state_dict()), build(), build()
    one = trained(task_of(steps, batch=batch, team=None, **teacher), theirs)
    with signs(team, local=local) as opposite:
        part = trained(task_of(steps, batch=batch, team=team, **teacher), mine)
    found, known = part.state_dict(), one.state_dict()
    assert [type(m) for m in part.modules()] == [type(m) for m in one.modules()], "BatchNorm is left as it was"
    largest = max(float((found[name].double() - known[name].double()).abs().max()) for name in known)
    return largest / changes(one, start), any(opposite), _apart(mine, theirs)


def _apart(mine: CurvatureHook | None, theirs: CurvatureHook | None) -> float:
    if mine is None or theirs is None:
        return 0.0
    ours, known = mine.summary(), theirs.summary()
    assert replace(ours, seconds=0, mean_loss=0, mean_term=0, mean_gradient_norm=0, mean_curvature=0) == replace(
        known, seconds=0, mean_loss=0, mean_term=0, mean_gradient_norm=0, mean_curvature=0
    )
    names = ("mean_loss", "mean_term", "mean_gradient_norm", "mean_curvature")
    return max(abs(getattr(ours, name) / getattr(known, name) - 1) for name in names)
