"""How often an evaluation runs a model, counted on a tiny one, and how long the real one takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from guard_plugins.attacks.base import Attack
from guard_plugins.attacks.pgd import PGD
from guard_plugins.evaluation.accuracy import attack_accuracy
from guard_plugins.evaluation.assess import CURVATURE_IMAGES
from guard_plugins.evaluation.curvature import measure_curvature
from guard_plugins.evaluation.gate.examine import probe
from guard_plugins.evaluation.gate.subject import Subject
from guard_plugins.evaluation.measure import attack_batch
from guard_plugins.evaluation.protocols import Protocol
from guard_plugins.pipeline.planning.samples import timed_batch
from guard_plugins.runtime.eval_mode import borrowed
from guard_plugins.runtime.seeds import Seeds
from guard_plugins.runtime.task import Task

SIDE: Final = 8
"""Pixels a side of the images that passes are counted on."""
COUNTED: Final = 4
"""Images that passes are counted on."""
HARMLESS: Final = 1e-6
"""A radius at which no attack succeeds, so that none ends early."""
TIMED: Final = 3
"""Passes of a real network that are timed, after a first one."""


@dataclass(frozen=True)
class Passes:
    """Images that go through a model, forwards only and with a gradient; numbers of them, or seconds for each.

    Attributes:
        forward: Without a gradient.
        gradient: With one.
    """

    forward: float
    gradient: float

    def seconds(self, each: Passes) -> float:
        """Return how long these take where one takes ``each``."""
        return self.forward * each.forward + self.gradient * each.gradient


def attack_passes(protocol: Protocol, attacks: Mapping[str, type[Attack]], task: Task) -> list[Passes]:
    """Return the passes per image of every attack and radius of a protocol, where no image is broken."""
    found = []
    for attack, radii in protocol.build(attacks):
        counted = _counted(task, lambda it, attack=attack: attack_accuracy(  # type: ignore[misc]
            it, attack, it.images, it.labels, eps=HARMLESS, batch_size=COUNTED, seeds=Seeds(0)
        ))  # fmt: skip
        found += [counted if eps else Passes(1, 0) for eps in radii]
    return found


def gate_passes(protocol: Protocol, task: Task) -> Passes:
    """Return the passes of the release gate's probes, all images together; none where it is left out."""
    if task.config.evaluation.gate == "off":
        return Passes(0, 0)
    counted = _counted(task, lambda it: probe(
        Subject(
            model=it, images=it.images, labels=it.labels, eps=HARMLESS, seeds=Seeds(0), batch_size=COUNTED,
            attack=PGD(**protocol.probe), source=it, teacher=it,
        ), h=1.0,
    ))  # fmt: skip
    images = min(len(task.data.test), protocol.probe_images, task.config.evaluation.images or protocol.probe_images)
    return Passes(counted.forward * images, counted.gradient * images)


def curvature_passes(task: Task) -> Passes:
    """Return the passes of the curvature's measurement, all images together."""
    counted = _counted(task, lambda it: measure_curvature(
        it, it.images, it.labels, h=1.0, batch_size=COUNTED, seeds=Seeds(0)
    ))  # fmt: skip
    images = min(len(task.data.test), CURVATURE_IMAGES, task.config.evaluation.images or CURVATURE_IMAGES)
    return Passes(counted.forward * images, counted.gradient * images)


def time_passes(task: Task, model: nn.Module, most: int) -> Passes:
    """Return the seconds of one image's passes through a real model, in batches as attacks have them.

    Args:
        task: Gives the size of batches.
        model: The model.
        most: Images that are attacked.
    """
    size = timed_batch(task, min(attack_batch(task), most))
    images = torch.rand(size, *task.data.image_shape).to(task.device)

    def forward() -> None:
        with torch.no_grad():
            model(images)

    def gradient() -> None:
        leaf = images.clone().requires_grad_()
        torch.autograd.grad(model(leaf).logsumexp(1).sum(), leaf)

    with borrowed(model):
        return Passes(_time(task, forward) / size, _time(task, gradient) / size)


def _time(task: Task, work: Callable[[], None]) -> float:
    work()
    taken = []
    for _ in range(TIMED):
        start = time.perf_counter()
        work()
        if task.device.type == "cuda":
            torch.cuda.synchronize(task.device)
        taken.append(time.perf_counter() - start)
    return sorted(taken)[TIMED // 2]


class _Counter(nn.Module):
    """A tiny network that counts the images that go through it, on images that it classifies correctly."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.forwards = self.gradients = 0
        self.weight = nn.Parameter(torch.randn(classes, channels * SIDE * SIDE, generator=generator))
        self.images = torch.rand(COUNTED, channels, SIDE, SIDE, generator=generator)
        with torch.no_grad():
            self.labels = self(self.images).argmax(1)
        self.forwards = 0

    def forward(self, images: Tensor) -> Tensor:
        self.forwards += len(images)
        if torch.is_grad_enabled() and images.requires_grad:
            images = _Through.apply(images, self)  # type: ignore[no-untyped-call]
        return F.gelu(F.linear(images.flatten(1), self.weight))


class _Through(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, counter: _Counter) -> Tensor:
        ctx.counter = counter
        return images.view_as(images)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        ctx.counter.gradients += len(grad)
        return grad, None


def _counted(task: Task, work: Callable[[_Counter], Any]) -> Passes:
    counter = _Counter(task.data.image_shape[0], task.classes)
    work(counter)
    # A pass with a gradient is counted as such, not once more as a forward pass.
    return Passes(max(0, counter.forwards - counter.gradients) / COUNTED, counter.gradients / COUNTED)
