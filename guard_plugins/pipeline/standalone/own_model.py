"""Evaluates a model in memory, from Python."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch

from guard_plugins.artifacts.evaluation import Evaluation
from guard_plugins.config.compose import compose
from guard_plugins.config.layers import Layer
from guard_plugins.evaluation.assess import assess, step_length
from guard_plugins.evaluation.protocols import find_protocol
from guard_plugins.host import PluginHost
from guard_plugins.pipeline.standalone.class_order import order_hint
from guard_plugins.pipeline.standalone.evaluate import NoMethod
from guard_plugins.pipeline.standalone.in_memory import data_of, require_fitting
from guard_plugins.pipeline.standalone.radii import doubtful_radius
from guard_plugins.runtime.engine import Engine, alone, ordinary, repeatable
from guard_plugins.runtime.keeping.checkpoints import Checkpoints
from guard_plugins.runtime.keeping.keeper import Keeper
from guard_plugins.runtime.monitor import Monitor
from guard_plugins.runtime.seeds import Seeds, preserved_streams
from guard_plugins.runtime.task import Task

if TYPE_CHECKING:
    from torch import nn

    from guard_plugins.data.base import Data


def evaluate(
    model: nn.Module,
    data: str | Data,
    protocol: str = "quick",
    *,
    eps: float | Sequence[float] | None = None,
    images: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
) -> Evaluation:
    """Attack a model in memory and put it through the release gate, as ``guard-eval`` does with one in a file.

    The model's training flags, the caller's random streams and the weights are left as found; the model is moved to
    the device. It works in float32 with gradients, also inside ``no_grad``, inference mode or autocast.

    Args:
        model: Takes pixels in [0, 1] (B, C, H, W) and returns logits; put normalisation inside
            (:class:`guard_plugins.Normalised`).
        data: Where the test images are from: a data set's name, or what :func:`guard_plugins.load_data` returns.
        protocol: ``quick``, ``standard``, ``paper``, or an attack alone, such as ``autoattack`` or ``pgd-100``.
        eps: Radii, or one, of an attack alone: over 255 in L-infinity, in pixels in L2.
        images: Attack this many test images only, spread over the set.
        batch_size: Images attacked at a time.
        seed: Seed of the attacks.
        device: Where to compute.

    Returns:
        Accuracies, curvature and the verdicts of the gate; look at ``gate`` before you quote a number.

    Raises:
        ConfigError: If a name or number is wrong.
        TrainingError: If a logit is not finite.
    """
    begin, host = time.perf_counter(), PluginHost()
    found = {"protocol": protocol, "eps": eps, "images": images}
    config = compose(
        NoMethod,
        [Layer("evaluate()", {"evaluation": {**found, "batch_size": batch_size}, "seed": seed, "device": device})],
    )
    chosen = find_protocol(config.evaluation.protocol, host.attacks, eps=config.evaluation.eps)
    data = data_of(data)
    with alone(), ordinary(), preserved_streams(), repeatable():
        require_fitting(model, data, data.test.images(torch.arange(min(2, len(data.test)))))
        keeper = Keeper(Checkpoints(None, every=config.checkpoint_every))
        task = Task(config, data, Engine(device), Seeds(seed), Monitor(), host.networks, keeper)
        model = task.engine.placed(model)
        hints = [hint for hint in (doubtful_radius(chosen, host.attacks), *order_hint(model, data)) if hint]
        for hint in hints:
            task.monitor.say(hint)
        h = step_length(config.guard.h, config.guard.h_rms, data.image_shape)
        assessed = assess(task, [model], chosen, host.attacks, name="checkpoint", h=h)
    return Evaluation(
        subject=type(model).__name__, kind="checkpoint", dataset=data.name, seed=seed, protocol=chosen.name,
        notes=[*chosen.notes, *hints], guard=None, model=assessed.report, gate=assessed.gate,
        curvature=assessed.summary(), seconds=round(time.perf_counter() - begin, 3),
    )  # fmt: skip
