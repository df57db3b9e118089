"""What the benchmarks of the methods share: random images of a task's shape, fair timing, the share of convolutions."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from examples.benchmarks.clock import CLOCKS, Clock
from guard_plugins.config import RunConfig
from guard_plugins.config.layers import Layer
from guard_plugins.data.base import Data
from guard_plugins.data.splits import TensorSplit
from guard_plugins.host import PluginHost
from guard_plugins.host.configure import resolve
from guard_plugins.method import Method
from guard_plugins.runtime.engine import Engine
from guard_plugins.runtime.keeping.checkpoints import Checkpoints
from guard_plugins.runtime.keeping.keeper import Keeper
from guard_plugins.runtime.monitor import Monitor
from guard_plugins.runtime.seeds import Seeds
from guard_plugins.runtime.task import Task

CLASSES: Final = 10
PER_CLASS: Final = 300


@dataclass(frozen=True)
class PreparedMethod:
    """A method ready to distil from random images.

    Attributes:
        task: The task.
        method: The method with its options.
    """

    task: Task
    method: Method


def subject(name: str, *, side: int, device: str, **settings: Any) -> PreparedMethod:
    """Return a method on ten classes of random colour images.

    Args:
        name: Name of an installed method.
        side: Height and width of the images.
        device: Where to compute.
        **settings: Options of the run by field name, as for :func:`guard_plugins.configure`.
    """
    labels = torch.arange(CLASSES).repeat(PER_CLASS)
    pixels = torch.rand((len(labels), 3, side, side), generator=torch.Generator().manual_seed(0))
    split = TensorSplit(pixels, labels)
    data = Data("random", split, split, tuple(map(str, range(CLASSES))), (0.5,) * 3, (0.25,) * 3, (3, side, side))
    given = {"dataset": "folder", "device": device, **settings}
    return subject_on(data, resolve(name, [Layer("the benchmark", given, may_be_idle="yes")]))


def subject_on(data: Data, config: RunConfig) -> PreparedMethod:
    """Return the configured method on some data."""
    host = PluginHost(only=[config.method])
    keeper = Keeper(Checkpoints(None, every=float("inf")))
    task = Task(config, data, Engine(config.device), Seeds(config.seed), Monitor(quiet=True), host.networks, keeper)
    method = host.method(config.method)
    own = {field: getattr(config, field) for field in method.Config.model_fields}
    return PreparedMethod(task, method(method.Config.model_validate(own)))


def best_seconds(runs: Mapping[str, Callable[[], object]], *, rounds: int, clock: Clock) -> dict[str, float]:
    """Return the time of each run in its best round; rounds go through all runs in turn, after one that is not timed.

    Args:
        runs: What to time, by name.
        rounds: Timed rounds.
        clock: Which clock.
    """
    now, best = CLOCKS[clock], dict.fromkeys(runs, float("inf"))
    for number in range(rounds + 1):
        for name, run in runs.items():
            _synchronise()
            start = now()
            run()
            _synchronise()
            best[name] = min(best[name], now() - start) if number else best[name]
    return best


def convolution_share(run: Callable[[], object]) -> float:
    """Return the share of a run's operator time that is spent in convolutions, forward and backward.

    The time is that of the GPU where it did anything.
    """
    cuda = torch.cuda.is_available()
    kinds = [torch.profiler.ProfilerActivity.CPU, *([torch.profiler.ProfilerActivity.CUDA] if cuda else [])]
    with torch.profiler.profile(activities=kinds) as profile:
        run()
    # operators only: a GPU's kernels stand beside them, with the same time again
    cpu = torch.autograd.DeviceType.CPU  # type: ignore[attr-defined]  # not said to be exported
    events = [event for event in profile.key_averages() if event.device_type == cpu]
    times: dict[str, float] = {event.key: event.self_device_time_total for event in events}
    if not any(times.values()):
        times = {event.key: event.self_cpu_time_total for event in events}
    return sum(spent for name, spent in times.items() if "conv" in name) / sum(times.values())


def parser(program: str, description: str) -> argparse.ArgumentParser:
    """Return a parser with the options both benchmarks have."""
    options = argparse.ArgumentParser(prog=f"python -m {program}", description=description)
    options.add_argument("--network", help="architecture")
    options.add_argument("--side", type=int, default=32, help="height and width of the images")
    options.add_argument("--rounds", type=int, default=3, help="timed rounds; the best one counts")
    options.add_argument("--threads", type=int, default=0, help="CPU threads (0: PyTorch's choice)")
    options.add_argument("--clock", choices=list(CLOCKS), default="wall", help="cpu: processor time of all threads")
    options.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where to compute")
    options.add_argument("--json", type=Path, help="also write the seconds to this file")
    options.add_argument("--profile", action="store_true", help="also print the share of time in convolutions")
    return options


def parsed(options: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the parsed options, with the number of threads set."""
    chosen = options.parse_args(arguments)
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    return chosen


def print_shares(runs: Mapping[str, Callable[[], object]]) -> None:
    """Print how much of each run is spent in convolutions."""
    for name, run in runs.items():
        sys.stdout.write(f"{name:<10} {100 * convolution_share(run):5.1f} % of the time in convolutions\n")


def rounded(seconds: Mapping[str, float], *, per: int) -> dict[str, dict[str, float]]:
    """Return milliseconds and the ratio to the published loop of each run, to be stored.

    Args:
        seconds: Of whole runs, ``published`` among them.
        per: Units of work in a run; the milliseconds are those of one.
    """
    return {
        name: {"ms": round(1000 * spent / per, 3), "faster": round(seconds["published"] / spent, 3)}
        for name, spent in seconds.items()
    }


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
