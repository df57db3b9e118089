"""Steps whose batches are read meanwhile, reading alone, steps alone: ``python -m examples.benchmarks.read_ahead``.

Steps have one core, and reading has another. All three take turns.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from examples.benchmarks.decode import photograph
from examples.benchmarks.stored import store
from guard_plugins.data.images.splits import Files, FileSplit
from guard_plugins.data.images.target import Target
from guard_plugins.networks.base import NetworkRequest
from guard_plugins.networks.small_resnet import SmallResNet
from guard_plugins.training.read_ahead import ReadAhead

Batches = Callable[[int], Tensor]


class Contest:
    """The loops that are timed, on batches of one photograph.

    Args:
        path: The photograph.
        batch: Images of a batch.
        side: Pixels a side that are delivered.
        steps: Steps of a loop.
        cores: That of the steps, and that of reading.
    """

    def __init__(self, path: Path, *, batch: int, side: int, steps: int, cores: tuple[int, int]) -> None:
        target = Target(channels=3, height=side, width=side, crop=1.0)
        self._split = FileSplit(Files((path,) * batch, torch.zeros(batch, dtype=torch.int64)), target)
        self._index, self._total, self._cores = torch.arange(batch), steps, cores
        self._held = self._split.images(self._index)
        self._net = SmallResNet(NetworkRequest(image_shape=(3, side, side), classes=10))

    def round(self) -> dict[str, float]:
        """Return the milliseconds a step of each loop takes."""
        loops = {
            "read": lambda: self._ahead(self._only_read),
            "step": lambda: self._train(lambda step: self._held),
            "together": lambda: self._ahead(self._train),
        }
        found, before = {}, os.sched_getaffinity(0)
        os.sched_setaffinity(0, {self._cores[0]})
        try:
            for name, loop in loops.items():
                started = time.perf_counter()
                loop()
                found[name] = (time.perf_counter() - started) * 1e3 / self._total
        finally:
            os.sched_setaffinity(0, before)
        return found

    def _ahead(self, work: Callable[[Batches], None]) -> None:
        with ReadAhead(self._split, lambda step: self._index, self._total, self._read) as ahead:
            work(lambda step: ahead.batch(step)[0])

    def _read(self, step: int, index: Tensor) -> Tensor:
        os.sched_setaffinity(0, {self._cores[1]})  # of this thread, and of those it starts to decode
        return self._split.images(index)

    def _only_read(self, batches: Batches) -> None:
        for step in range(self._total):
            batches(step)

    def _train(self, batches: Batches) -> None:
        for step in range(self._total):
            self._net.zero_grad()
            self._net(batches(step)).square().mean().backward()


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the best round of each loop, and how much longer both together take than the longer of the two."""
    parser = argparse.ArgumentParser(prog="python -m examples.benchmarks.read_ahead", description=__doc__)
    parser.add_argument("--batch", type=int, default=32, help="images of a batch")
    parser.add_argument("--side", type=int, default=64, help="pixels a side that are delivered")
    parser.add_argument("--photograph", type=int, nargs=2, default=(500, 375), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds; the best one counts")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    options = parser.parse_args(arguments)
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        parser.error("two cores are needed: one for the steps, one for reading")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "photograph.jpg"
        path.write_bytes(photograph(*options.photograph))
        contest = Contest(
            path, batch=options.batch, side=options.side, steps=options.steps, cores=(cores[0], cores[1])
        )  # fmt: skip
        rounds = [contest.round() for _ in range(options.rounds + 1)][1:]  # the first one warms up
    best = {name: min(found[name] for found in rounds) for name in rounds[0]}
    ratio = best["together"] / max(best["read"], best["step"])
    sys.stdout.write(f"{', '.join(f'{name} {ms:.1f} ms' for name, ms in best.items())}, ratio {ratio:.2f}\n")
    if options.json:
        results = {**best, "ratio": ratio}
        store(options.json, "examples.benchmarks.read_ahead", arguments, results, device=torch.device("cpu"))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
