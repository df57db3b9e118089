"""What the curvature hook costs beside other ways to train: ``python -m examples.benchmarks.hook``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from examples.benchmarks.clock import CLOCKS
from examples.benchmarks.hook_measure import Cost, measure
from examples.benchmarks.hook_networks import NETWORKS
from examples.benchmarks.stored import store
from guard_plugins.runtime.engine import repeatable


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print one table per network, and store the numbers if asked to."""
    options = _parser().parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    results: dict[str, Mapping[str, Cost]] = {}
    for name in options.networks:
        with repeatable():  # as in a run
            results[name] = measure(
                NETWORKS[name], batch=options.batch, rounds=options.rounds, device=device, clock=options.clock
            )
        sys.stdout.write(table(f"{name}, batch {options.batch}, {options.device}", results[name]) + "\n")
        if options.json:  # after each network, so that an interrupted run keeps what it measured
            store(options.json, "examples.benchmarks.hook", arguments, _plain(results), device=device)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m examples.benchmarks.hook", description=__doc__)
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--batch", type=int, default=16, help="images per step")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds of four steps; the best one counts")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (0: PyTorch's choice)")
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall", help="cpu: processor time of all threads")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    return parser


def table(title: str, costs: Mapping[str, Cost]) -> str:
    """Return the costs as a text table."""
    lines = [title, f"{'':<26}{'ms/step':>10}{'× plain':>10}{'peak MiB':>10}"]
    for name, cost in costs.items():
        peak = "–" if cost.peak_mib is None else f"{cost.peak_mib:.0f}"
        lines.append(f"{name:<26}{cost.ms:>10.1f}{cost.ratio:>10.2f}{peak:>10}")
    return "\n".join(lines) + "\n"


def _plain(results: Mapping[str, Mapping[str, Cost]]) -> dict[str, Any]:
    return {
        network: {name: {k: v and round(v, 3) for k, v in asdict(cost).items()} for name, cost in costs.items()}
        for network, costs in results.items()
    }


if __name__ == "__main__":
    raise SystemExit(main())
