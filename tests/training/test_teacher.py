"""What a teacher ends with, and the labels it learns from."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from guard_baselines.random_real import RandomReal
from guard_plugins import configure
from guard_plugins.errors import ConfigError
from guard_plugins.runtime.keeping.checkpoints import Checkpoints
from guard_plugins.runtime.keeping.keeper import Keeper
from guard_plugins.runtime.loop import LoopState
from guard_plugins.runtime.signals import StoppedError
from guard_plugins.runtime.task import Task
from guard_plugins.testing.tiny import tiny_task
from guard_plugins.training.objectives import plain
from guard_plugins.training.teacher import train_supervised

DECAY = 0.8


class Watching(Keeper):
    """Notes the weights after every step, and may stop the loop after one."""

    stop_after = 0
    seen: list[dict[str, Tensor]]

    def after(self, loop: str, done: int, state: LoopState, *, last: bool) -> None:
        model: Any = state.parts["model"]
        self.seen.append({name: value.detach().double().clone() for name, value in model.named_parameters()})
        if done == self.stop_after:
            self.stop.number = 15
        super().after(loop, done, state, last=last)


def watching(folder: Path | None = None, *, stop_after: int = 0) -> Watching:
    keeper = Watching(Checkpoints(folder, every=1e9))
    object.__setattr__(keeper, "stop_after", stop_after)
    object.__setattr__(keeper, "seen", [])
    return keeper


def a_task(keeper: Keeper, **teacher: Any) -> Task:
    options = {"network": "convnet3-bn", "epochs": 2, "batch_size": 16, **teacher}
    return replace(tiny_task(RandomReal, settings={"teacher": options}), keeper=keeper)


def trained(task: Task) -> nn.Module:
    model = task.network(stage="teacher")
    train_supervised(task, model)
    return model


def test_the_teacher_ends_with_the_mean_of_its_weights() -> None:
    keeper = watching()
    task = a_task(keeper)
    first = {name: value.detach().double() for name, value in task.network(stage="teacher").named_parameters()}
    last = trained(task)
    mean = first
    for weights in keeper.seen:
        mean = {name: DECAY * mean[name] + (1 - DECAY) * value for name, value in weights.items()}
    found = trained(a_task(watching(), ema=DECAY))
    assert len(keeper.seen) > 2
    for name, value in found.named_parameters():
        assert torch.allclose(value.double(), mean[name], atol=1e-6), name
    for (name, buffer), (_, other) in zip(found.named_buffers(), last.named_buffers(), strict=True):
        assert torch.equal(buffer, other), name
    moved = zip(found.parameters(), last.parameters(), strict=True)
    assert any(not torch.allclose(one, other, atol=1e-3) for one, other in moved)
    assert not found.training


def test_a_stopped_teacher_goes_on_with_its_mean(tmp_path: Path) -> None:
    whole = trained(a_task(watching(), ema=DECAY)).state_dict()
    with pytest.raises(StoppedError):
        trained(a_task(watching(tmp_path, stop_after=2), ema=DECAY))
    resumed = trained(a_task(watching(tmp_path), ema=DECAY)).state_dict()
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


def test_smoothed_labels_spread_a_share_over_all_classes() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(4, 5, generator=generator, dtype=torch.float64), torch.tensor([0, 3, 1, 4])
    expected = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        log_sum = math.log(sum(math.exp(value) for value in row))
        for k, value in enumerate(row):
            expected -= ((0.7 if k == label else 0.0) + 0.3 / 5) * (value - log_sum) / 4
    assert float(plain(nn.Identity(), logits, labels, smoothing=0.3)) == pytest.approx(expected, abs=1e-12)


def test_a_rival_does_not_read_the_smoothing() -> None:
    with pytest.raises(ConfigError, match=r"--teacher.label-smoothing would do nothing: the objective pgd does not"):
        configure("random", teacher={"training": "pgd", "label_smoothing": 0.1})


class OwnLoop(RandomReal):
    name = "own-loop"

    def train_teacher(self, task: Task, model: nn.Module) -> None:
        raise AssertionError


def test_a_loop_of_a_methods_own_reads_neither() -> None:
    for option, value in {"ema": 0.9, "label_smoothing": 0.1}.items():
        with pytest.raises(ConfigError, match="trains its teacher in a loop of its own"):
            configure(OwnLoop, teacher={option: value})
