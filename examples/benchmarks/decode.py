"""How long photographs take to decode, whole and at a reduced scale: ``python -m examples.benchmarks.decode``."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from examples.benchmarks.clock import CLOCKS
from examples.benchmarks.stored import store
from guard_plugins.data.images.decode import decode
from guard_plugins.data.images.target import Target


def photograph(width: int, height: int) -> bytes:
    """Return a JPEG with detail at every scale, as photographs have."""
    random = np.random.default_rng(0)
    total = np.zeros((height, width, 3), np.float32)
    for side in (4, 16, 64, 256):
        coarse = Image.fromarray(random.integers(0, 256, (side, side, 3), np.uint8))
        total += np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float32)
    file = io.BytesIO()
    Image.fromarray((total / 4).astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


def main(arguments: Sequence[str] | None = None) -> int:
    """Time both ways in turn and print the best round of each."""
    parser = argparse.ArgumentParser(prog="python -m examples.benchmarks.decode", description=__doc__)
    parser.add_argument("--size", type=int, nargs=2, default=(2048, 1536), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--side", type=int, default=224, help="pixels a side that are delivered")
    parser.add_argument("--rounds", type=int, default=10, help="timed rounds; the best one counts")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    options = parser.parse_args(arguments)
    content, now = photograph(*options.size), CLOCKS["cpu"]
    whole = Target(channels=3, height=options.side, width=options.side, crop=1.0)
    targets = {"whole": whole, "reduced": replace(whole, reduced=True)}
    best = dict.fromkeys(targets, float("inf"))
    for _ in range(options.rounds):
        for name, target in targets.items():
            started = now()
            decode(content, target, "photograph")
            best[name] = min(best[name], (now() - started) * 1e3)
    ratio = best["reduced"] / best["whole"]
    sys.stdout.write(f"whole {best['whole']:.1f} ms, reduced {best['reduced']:.1f} ms, ratio {ratio:.2f}\n")
    if options.json:
        store(
            options.json, "examples.benchmarks.decode", arguments, {**best, "ratio": ratio}, device=torch.device("cpu")
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
