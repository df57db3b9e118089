"""How fast images are recovered, beside the published loop: ``python -m examples.benchmarks.recover``."""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable, Sequence
from typing import Final

import torch
from torch import Tensor

from examples.benchmarks.distillation import (
    CLASSES,
    PreparedMethod,
    best_seconds,
    parsed,
    parser,
    print_shares,
    rounded,
    subject,
)
from examples.benchmarks.published_recover import published_recover
from examples.benchmarks.stored import store
from guard_plugins.networks.normalised import Normalised

LR: Final = 0.25
R_BN: Final = 0.01
JITTER: Final = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Time both, and print images recovered per second (for as many steps as were run) and their ratio."""
    options = parser("examples.benchmarks.recover", __doc__ or "")
    options.add_argument("--ipc", type=int, default=10, help="images per class")
    options.add_argument("--steps", type=int, default=10, help="steps per image")
    options.add_argument(
        "--batch", type=int, nargs="+", default=[100], help="images at a time (published: one a class)"
    )
    chosen = parsed(options, arguments)
    subjects = {f"batch {size}": _subject(chosen, size) for size in chosen.batch}
    teacher = _teacher(next(iter(subjects.values())))
    runs: dict[str, Callable[[], object]] = {"published": lambda: _published(chosen, teacher)}
    for name, ours in subjects.items():
        runs[name] = functools.partial(ours.method.distill, ours.task, teacher)
    seconds = best_seconds(runs, rounds=chosen.rounds, clock=chosen.clock)
    steps = CLASSES * chosen.ipc * chosen.steps
    for name, spent in seconds.items():
        rate, ratio = steps / spent, seconds["published"] / spent
        sys.stdout.write(
            f"{name:<10} {rate:8.1f} image steps/s  {rate / 1000:7.4f} images/s at 1000 steps  {ratio:.2f}x\n"
        )
    if chosen.profile:
        print_shares(runs)
    if chosen.json:
        results = rounded(seconds, per=steps)
        store(chosen.json, "examples.benchmarks.recover", arguments, results, device=torch.device(chosen.device))
    return 0


def _subject(chosen: argparse.Namespace, batch: int) -> PreparedMethod:
    recover = {"iterations": chosen.steps, "lr": LR, "r_bn": R_BN, "jitter": JITTER, "batch": batch}
    return subject(
        "sre2l", side=chosen.side, device=chosen.device, ipc=chosen.ipc, recover=recover,
        teacher={"network": chosen.network or "resnet18"},
    )  # fmt: skip


def _published(chosen: argparse.Namespace, teacher: Normalised) -> Tensor:
    return published_recover(
        teacher, classes=CLASSES, ipc=chosen.ipc, side=chosen.side, iterations=chosen.steps, lr=LR, r_bn=R_BN,
        jitter=JITTER,
    )  # fmt: skip


def _teacher(ours: PreparedMethod) -> Normalised:
    model = ours.task.network(stage="teacher")
    model(torch.rand((32, *ours.task.data.image_shape), device=ours.task.device))  # gives BatchNorm its statistics
    return model.eval().requires_grad_(False)


if __name__ == "__main__":
    raise SystemExit(main())
