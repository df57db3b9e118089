"""One run of a method's teacher training and distillation under watch."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from guard_plugins.curvature import CurvatureHook
from guard_plugins.data.distilled import DistilledSet
from guard_plugins.method import Method
from guard_plugins.networks.normalised import Normalised
from guard_plugins.pipeline.declared import rehearsed
from guard_plugins.pipeline.guard import build_hook, wrap_guarded
from guard_plugins.runtime.loop import Between
from guard_plugins.testing.promises import expecting
from guard_plugins.testing.surroundings import Surroundings, stream_states
from guard_plugins.testing.tiny import TinyTask


@dataclass
class Trial:
    """What one run gave.

    Attributes:
        tiny: Where it ran.
        teacher: The trained teacher as ``distill`` got it, or None.
        distilled: What ``distill`` returned.
        regularised: Regularised steps in every guarded function that was called.
        teacher_steps: Units of progress ``train_teacher`` reported.
        steps: Units of progress ``distill`` reported.
        reported: Numbers the method reported.
        streams: Digest of every global random stream at the end.
        damage: What was found changed after ``distill``, or an empty list.
        offered: Whether a loop offered its images.
    """

    tiny: TinyTask
    teacher: Normalised | None = None
    distilled: DistilledSet | Any = None
    regularised: dict[str, int] = field(default_factory=dict)
    teacher_steps: int = 0
    steps: int = 0
    reported: dict[str, float] = field(default_factory=dict)
    streams: dict[str, str] = field(default_factory=dict)
    damage: list[str] = field(default_factory=list)
    offered: bool = False

    def unlooked(self, loop: str, total: int, preview: Callable[[], DistilledSet]) -> Between:
        """Note that a loop offers its images, and look at none."""
        self.offered = True
        return Between(lambda done: False, lambda done: None)


def run_trial(tiny: TinyTask, *, ambient: int, teacher: Normalised | None = None) -> Trial:
    """Train the method's teacher and distil, under the hook, and watch.

    Args:
        tiny: The tiny task.
        ambient: What the global random streams hold before: a method must not depend on it.
        teacher: A trained teacher to use in place of training one.

    Raises:
        BrokenPromiseError: If the method raises anything.
    """
    trial, method = Trial(tiny, teacher), tiny.instance()
    hook = build_hook(tiny.task.config.guard)
    # As in a run: the hook counts steps, so its state is saved and restored with every loop.
    keeper = replace(tiny.task.keeper, riders={"hook": hook} if method.guarded else {})
    validator = tiny.task.validator or trial.unlooked
    tiny = replace(tiny, task=replace(tiny.task, keeper=keeper, validator=validator))
    if method.guarded:
        wrap_guarded(method, hook)
        _count(method, hook, trial.regularised)
    if method.uses_teacher and teacher is None:
        trial.teacher = _trained(tiny, method, ambient)
    elif not method.uses_teacher:
        with expecting("check"):
            method.check(tiny.task, None)
    trial.teacher_steps = tiny.listener.steps
    surroundings = Surroundings.of(tiny.task.data, trial.teacher)
    before = tiny.listener.steps
    _seed_streams(ambient)
    with expecting("distill"):
        known = rehearsed(tiny.task, method, trial.teacher) if trial.teacher is not None else ()
        trial.distilled = method.distill(replace(tiny.task, teachers=known), trial.teacher)
    trial.steps, trial.streams = tiny.listener.steps - before, stream_states()
    trial.reported = dict(keeper.keepsakes.numbers)
    trial.damage = surroundings.differences(Surroundings.of(tiny.task.data, trial.teacher))
    return trial


def _trained(tiny: TinyTask, method: Method, ambient: int) -> Normalised:
    model = tiny.task.network(stage="teacher")
    with expecting("check"):
        method.check(tiny.task, model)
    _seed_streams(ambient)
    with expecting("train_teacher"):
        method.train_teacher(tiny.task, model)
    return model.eval().requires_grad_(False)


def _seed_streams(ambient: int) -> None:
    torch.manual_seed(ambient)
    np.random.seed(ambient)
    random.seed(ambient)


def _count(method: Method, hook: CurvatureHook, regularised: dict[str, int]) -> None:
    """Note how many regularised steps each guarded function of ``method`` brings."""

    def counting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            before = hook.summary().regularised_steps
            try:
                return function(*args, **kwargs)
            finally:
                regularised[name] = regularised.get(name, 0) + hook.summary().regularised_steps - before

        return call

    for name in method.guarded:
        setattr(method, name, counting(name, getattr(method, name)))
