"""How fast images are recovered, beside the published loop: ``python -m guard_plugins.bench.recover``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

import torch

from guard_plugins.bench.distillation import CLASSES, Subject, best_seconds, convolution_share, parser, subject
from guard_plugins.bench.published_recover import published_recover
from guard_plugins.networks.normalised import Normalised

LR: Final = 0.25
R_BN: Final = 0.01
JITTER: Final = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Time both, and print images recovered per second (for as many steps as were run) and their ratio."""
    options = parser("guard_plugins.bench.recover", __doc__ or "")
    options.add_argument("--ipc", type=int, default=10, help="images per class")
    options.add_argument("--steps", type=int, default=4, help="steps per image")
    chosen = options.parse_args(arguments)
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    recover = {"iterations": chosen.steps, "lr": LR, "r_bn": R_BN, "jitter": JITTER, "batch": 100}
    ours = subject(
        "sre2l", side=chosen.side, device=chosen.device, ipc=chosen.ipc, recover=recover,
        teacher={"network": chosen.network or "resnet18"},
    )  # fmt: skip
    teacher = _teacher(ours)
    runs = {
        "published": lambda: published_recover(
            teacher, classes=CLASSES, ipc=chosen.ipc, side=chosen.side, iterations=chosen.steps, lr=LR, r_bn=R_BN,
            jitter=JITTER,
        ),
        "ours": lambda: ours.method.distill(ours.task, teacher),
    }  # fmt: skip
    seconds = best_seconds(runs, rounds=chosen.rounds, clock=chosen.clock)
    images = CLASSES * chosen.ipc
    for name, spent in seconds.items():
        rate, ratio = images * chosen.steps / spent, seconds["published"] / spent
        sys.stdout.write(
            f"{name:<10} {rate:8.1f} image steps/s  {rate / 1000:7.4f} images/s at 1000 steps  {ratio:.2f}x\n"
        )
    if chosen.profile:
        for name, run in runs.items():
            sys.stdout.write(f"{name:<10} {100 * convolution_share(run):5.1f} % of the time in convolutions\n")
    return 0


def _teacher(ours: Subject) -> Normalised:
    model = ours.task.network(stage="teacher")
    model(torch.rand((32, *ours.task.data.image_shape), device=ours.task.device))  # gives BatchNorm its statistics
    return model.eval().requires_grad_(False)


if __name__ == "__main__":
    raise SystemExit(main())
