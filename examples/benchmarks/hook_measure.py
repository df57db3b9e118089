"""Measuring milliseconds per step and peak memory, fairly on a machine with other work."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import nn

from examples.benchmarks.clock import CLOCKS, Clock
from examples.benchmarks.hook_steps import VARIANTS, Training
from guard_plugins.runtime.engine import Engine

_CYCLE: Final = 4  # a whole period of every=4


@dataclass(frozen=True)
class Cost:
    """What one way to train costs.

    Attributes:
        ms: Milliseconds per step in the best round.
        ratio: The same in units of a plain step.
        peak_mib: Peak memory above the resting process in MiB (on CUDA: peak allocated), None where unknown.
    """

    ms: float
    ratio: float
    peak_mib: float | None


def training(build: Callable[[], nn.Module], *, batch: int, device: torch.device) -> Training:
    """Return a freshly seeded network in training mode on one random batch."""
    torch.manual_seed(0)
    net = Engine(device.type).placed(build()).train()
    x = torch.randn(batch, 3, 32, 32, device=device)
    y = torch.randint(0, 10, (batch,), device=device)
    return Training(net, torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9), x, y)


def measure(
    build: Callable[[], nn.Module], *, batch: int, rounds: int, device: torch.device, clock: Clock
) -> dict[str, Cost]:
    """Return the cost of every way to train the network.

    Rounds go through all ways in turn and the best one counts, so that other load on the machine hits all alike.
    """
    best = dict.fromkeys(VARIANTS, float("inf"))
    peaks: dict[str, float | None] = {}
    for name, steps in VARIANTS.items():
        work = training(build, batch=batch, device=device)
        steps(work, 1)
        peaks[name] = _peak(lambda steps=steps, work=work: steps(work, _CYCLE), device)  # type: ignore[misc]
    for _ in range(rounds):
        for name, steps in VARIANTS.items():
            work = training(build, batch=batch, device=device)
            steps(work, 1)  # the hook checks itself at the first step of every model, once in a training
            best[name] = min(best[name], _timed(lambda steps=steps, work=work: steps(work, _CYCLE), device, clock))  # type: ignore[misc]
    base = best["plain"]
    return {name: Cost(ms, ms / base, peaks[name]) for name, ms in best.items()}


def _timed(run: Callable[[], None], device: torch.device, clock: Clock) -> float:
    now = CLOCKS[clock]
    _synchronise(device)
    started = now()
    run()
    _synchronise(device)
    return (now() - started) / _CYCLE * 1e3


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak(run: Callable[[], None], device: torch.device) -> float | None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        run()
        return torch.cuda.max_memory_allocated(device) / 2**20
    if not sys.platform.startswith("linux"):
        run()
        return None
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark of the resident set
    resting = _resident("VmRSS")
    run()
    return (_resident("VmHWM") - resting) / 1024


def _resident(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(field)))
