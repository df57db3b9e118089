"""State in what the attributes of modules hold: records, arrays, deep containers and generators of their own."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from guard_plugins.curvature import CurvatureHook
from guard_plugins.curvature.state.held import Held
from tests.curvature.gaps import H

GENERATOR = torch.Generator().manual_seed(6)
BATCHES = [
    (torch.randn(6, 5, generator=GENERATOR, dtype=torch.float64), torch.randint(0, 3, (6,), generator=GENERATOR))
    for _ in range(4)
]
CE = F.cross_entropy
WAYS = [{}, {"weight": 0.5}, {"penalty": "gradient"}]


class Meter:
    """As scripts have one: neither a container nor a module."""

    def __init__(self) -> None:
        self.total, self.count, self.log = 0.0, 0, [0.0]

    def update(self, value: float) -> None:
        self.total += value
        self.count += 1
        self.log.append(value)


@dataclass
class Schedule:
    calls: int = 0


class Stateful(nn.Module):
    """Scales its output by what ``advance`` makes of the state that it holds."""

    def __init__(self, state: Any, advance: Callable[[Any, Tensor], float]) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.net = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).double()
        self.state, self.advance = state, advance

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) * self.advance(self.state, x.detach())


def _meter(meter: Meter, x: Tensor) -> float:
    meter.update(float(x.mean()))
    return 1 + 0.1 * meter.count


def _schedule(schedule: Any, x: Tensor) -> float:
    schedule.calls += 1
    return 1 + 0.1 * schedule.calls


def _deep(held: Any, x: Tensor) -> float:
    held["a"]["b"]["n"][0] += 1
    return 1 + 0.1 * held["a"]["b"]["n"][0]


def _array(array: Any, x: Tensor) -> float:
    array[int(x[0, 0] > 0)] += 1
    return 1 + 0.1 * float(array[0])


STATES: dict[str, tuple[Callable[[], Any], Callable[[Any, Tensor], float], Callable[[Any], Any]]] = {
    "meter": (Meter, _meter, lambda m: (m.total, m.count, m.log)),
    "namespace": (lambda: SimpleNamespace(calls=0), _schedule, lambda s: s.calls),
    "data class": (Schedule, _schedule, lambda s: s.calls),
    "meter in a list": (lambda: [Meter()], lambda s, x: _meter(s[0], x), lambda s: s[0].log),
    "deep container": (lambda: {"a": {"b": {"n": [0]}}}, _deep, lambda s: s["a"]["b"]["n"]),
    "array": (lambda: np.zeros(2), _array, lambda a: a.tolist()),
    "generator of PyTorch": (
        lambda: torch.Generator().manual_seed(3),
        lambda g, x: 1 + float(torch.rand((), generator=g)),
        lambda g: g.get_state().tolist(),
    ),
    "generator of NumPy": (
        lambda: np.random.default_rng(3),
        lambda g, x: 1 + float(g.random()),
        lambda g: str(g.bit_generator.state),
    ),
    "old generator of NumPy": (
        lambda: np.random.RandomState(3),
        lambda g, x: 1 + float(g.rand()),
        lambda g: g.get_state()[2],
    ),
    "generator of Python": (lambda: random.Random(3), lambda g, x: 1 + g.random(), lambda g: g.getstate()),
}


def twin(name: str, way: dict[str, Any]) -> tuple[Stateful, Any]:
    """Train on the objective by hand, with one step of the state for each batch."""
    made, advance, shown = STATES[name]
    net = Stateful(made(), advance)
    optimiser = torch.optim.SGD(net.parameters(), 0.1)
    for x, y in BATCHES:
        optimiser.zero_grad()
        factor = advance(net.state, x)

        def loss(x: Tensor, y: Tensor = y, factor: float = factor) -> Tensor:
            return CE(net.net(x) * factor, y)

        leaf = x.clone().requires_grad_()
        here = loss(leaf)
        (g,) = torch.autograd.grad(here, leaf, create_graph=True)
        moved = (x + H * F.normalize(g.detach(), dim=1)).requires_grad_()
        there = loss(moved)
        term = (there - here).abs()
        if way.get("penalty") == "gradient":
            (h,) = torch.autograd.grad(there, moved, create_graph=True)
            term = (h - g).norm(dim=1).sum()
        (here + way.get("weight", 1.0) * term).backward()
        optimiser.step()
    return net, shown(net.state)


@pytest.mark.parametrize("name", STATES)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("explicit", [False, True])
def test_what_an_attribute_holds_moves_once_a_step(name: str, way: dict[str, Any], explicit: bool) -> None:
    made, advance, shown = STATES[name]
    net, hook = Stateful(made(), advance), CurvatureHook(h=H, **way)
    optimiser = torch.optim.SGD(net.parameters(), 0.1)

    def train() -> None:
        for x, y in BATCHES:
            optimiser.zero_grad()
            loss = hook.loss(net, x, lambda out, y=y: CE(out, y)) if explicit else CE(net(x), y)
            loss.backward()
            optimiser.step()

    train() if explicit else hook(train)()
    expected, state = twin(name, way)
    assert shown(net.state) == state
    for ours, theirs in zip(net.parameters(), expected.parameters(), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("way", WAYS)
def test_settings_changed_before_backward_do_not_change_the_term(way: dict[str, Any]) -> None:
    found = []
    for changed in (False, True):
        net = Stateful(SimpleNamespace(scale=1.5), lambda s, x: s.scale)
        optimiser = torch.optim.SGD(net.parameters(), 0.1)
        with CurvatureHook(h=H, **way):
            for x, y in BATCHES:
                optimiser.zero_grad()
                net.state.scale = 1.5
                loss = CE(net(x), y)
                net.state.scale = 7.0 if changed else 1.5
                loss.backward()
                assert net.state.scale == (7.0 if changed else 1.5)
                optimiser.step()
        found.append(torch.cat([p.detach().flatten() for p in net.parameters()]))
    assert torch.equal(*found)


def test_objects_that_are_no_records_are_left_alone() -> None:
    class Trainer:
        def __init__(self) -> None:
            self.model, self.steps = nn.Linear(2, 2), 0

    trainer, large, frozen = Trainer(), np.zeros(1 << 18), np.zeros(3)
    frozen.flags.writeable = False
    held = Held([trainer, large, frozen, "text", nn.Linear(2, 2), Meter, print])
    trainer.steps = 5
    large[0] = 1
    held.restore()
    assert trainer.steps == 5
    assert large[0] == 1
    assert len(held.entries) == 7


@pytest.mark.parametrize("kind", [list, dict, OrderedDict])
def test_the_end_of_a_long_log_in_a_record_is_put_back(kind: Any) -> None:
    meter = SimpleNamespace(log=kind() if kind is list else kind((i, i) for i in range(6000)))
    if kind is list:
        meter.log.extend(range(6000))

    def add() -> None:
        meter.log.append(-1) if kind is list else meter.log.__setitem__(len(meter.log), -1)

    before = Held([meter])
    add()
    after, expected = Held([meter]), meter.log.copy()
    for _ in range(2):
        before.restore()
        assert len(meter.log) == 6000
        add()
        add()
        after.restore()
        assert meter.log == expected
    meter.log.clear()
    before.restore()
    assert not meter.log


def test_much_in_a_record_is_data_and_not_copied() -> None:
    words = SimpleNamespace(index={str(i): i for i in range(6000)})
    held = Held([words, plain := {str(i): i for i in range(6000)}])
    words.index["3"] = plain["3"] = -1
    held.restore()
    assert words.index["3"] == -1
    assert plain["3"] == 3
