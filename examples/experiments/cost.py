"""What a step of the teacher costs in every row, from the hook's benchmark."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

BENCHMARK: Final = Path(__file__).parents[1] / "benchmarks/hook-cpu-small-resnet.json"
GPU: Final = BENCHMARK.with_name("hook-h100.json")
ROWS: Final = {
    ("sre2l", "no hook"): "plain", ("sre2l", "hook"): "hook, weight 1",
    ("sre2l", "hook, every 4"): "hook, every 4, weight 4", ("sre2l", "FGSM-RS teacher"): "FGSM-RS",
    ("other-teachers", "gradient form"): "hook, gradient (CURE)", ("other-teachers", "PGD teacher"): "PGD-10",
}  # fmt: skip
"""What the benchmark calls the training of the teacher of an experiment's row."""


def benchmark() -> dict[str, Any]:
    """Return the stored benchmark: command, machine and, in ``results``, costs by network and way to train."""
    content: dict[str, Any] = json.loads(BENCHMARK.read_text(encoding="utf-8"))
    return content


def ratios() -> dict[str, float]:
    """Return the time of a step by way to train, as a multiple of the plain teacher's."""
    (costs,) = benchmark()["results"].values()
    return {name: cost["ratio"] for name, cost in costs.items()}


def gpu_ratios() -> dict[str, float]:
    """Return the same for the same network on a GPU."""
    costs = json.loads(GPU.read_text(encoding="utf-8"))["results"]["small-resnet"]
    return {name: cost["ratio"] for name, cost in costs.items()}
