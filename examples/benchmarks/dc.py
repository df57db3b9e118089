"""How long an outer step of DC takes, beside the published loop: ``python -m examples.benchmarks.dc``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import torch

from examples.benchmarks.distillation import best_seconds, parsed, parser, print_shares, rounded, subject
from examples.benchmarks.published_dc import published_dc
from examples.benchmarks.stored import store


def main(arguments: Sequence[str] | None = None) -> int:
    """Time both, and print seconds per image step (with the network steps that follow it) and their ratio."""
    options = parser("examples.benchmarks.dc", __doc__ or "")
    options.add_argument("--ipc", type=int, default=1, help="images per class")
    options.add_argument("--iterations", type=int, default=2, help="networks per round")
    options.add_argument("--outer", type=int, default=1, help="image steps per network")
    options.add_argument("--inner", type=int, default=1, help="epochs between image steps")
    options.add_argument("--real-batch", type=int, nargs="+", default=[64], help="real images per class and image step")
    chosen = parsed(options, arguments)
    steps = chosen.iterations * chosen.outer
    seconds = {size: _seconds(chosen, size) for size in chosen.real_batch}
    if chosen.json:
        results = {f"real batch {size}": rounded(spent, per=steps) for size, spent in seconds.items()}
        store(chosen.json, "examples.benchmarks.dc", arguments, results, device=torch.device(chosen.device))
    return 0


def _seconds(chosen: argparse.Namespace, real_batch: int) -> dict[str, float]:
    shared = {
        "network": chosen.network or "convnet3", "iterations": chosen.iterations, "outer": chosen.outer,
        "inner": chosen.inner, "real_batch": real_batch,
    }  # fmt: skip
    ours = subject("dc", side=chosen.side, device=chosen.device, ipc=chosen.ipc, match=shared)
    runs = {
        "published": lambda: published_dc(ours.task, **shared),
        "ours": lambda: ours.method.distill(ours.task, None),
    }
    seconds = best_seconds(runs, rounds=chosen.rounds, clock=chosen.clock)
    for name, spent in seconds.items():
        step = spent / (chosen.iterations * chosen.outer)
        ratio = seconds["published"] / spent
        sys.stdout.write(f"{name:<10} {step:8.3f} s per image step  {ratio:.2f}x  {real_batch} real per class\n")
    if chosen.profile:
        print_shares(runs)
    return seconds


if __name__ == "__main__":
    raise SystemExit(main())
