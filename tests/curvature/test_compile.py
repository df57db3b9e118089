"""torch.compile: compiled models train like their twins, compiled losses are refused."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from guard_plugins.curvature import CurvatureHook
from guard_plugins.errors import HookError
from tests.curvature.worlds import Twin, assert_same, batches

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def _net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.SiLU(), nn.Flatten(), nn.Linear(64, 4))


def _train(call, net: nn.Module, loss_at) -> None:
    opt = torch.optim.SGD(net.parameters(), lr=0.05)
    for x, y in batches(3):
        opt.zero_grad()
        loss_at(lambda x, y=y: F.cross_entropy(call(x), y), x).backward()
        opt.step()


def _plain(loss_at, x):
    return loss_at(x)


@pytest.mark.parametrize("weight", [1.0, 2.0])
@pytest.mark.parametrize("style", ["torch.compile", "torch.compile fullgraph", "model.compile()", "eager backend"])
def test_compiled_models_equal_the_twin(style: str, weight: float) -> None:
    ours, twin = _net(), _net()
    start = copy.deepcopy(ours.state_dict())
    if style == "model.compile()":
        ours.compile()
        call = ours
    else:
        backend = "aot_eager" if style == "eager backend" else "inductor"
        call = torch.compile(ours, fullgraph="fullgraph" in style, backend=backend)
    hook = CurvatureHook(h=0.5, weight=weight)
    with hook:
        _train(call, ours, _plain)
    _train(twin, twin, Twin(twin, h=0.5, weight=weight))
    # inductor reorders sums; the largest difference seen is of the order of float32 rounding
    assert_same(ours, twin, start, tolerance=1e-5)
    assert hook.summary().regularised_steps == 3
    with torch.no_grad():
        call(batches(1)[0][0])


def test_explicit_form_with_a_compiled_model() -> None:
    ours, twin = _net(), _net()
    start = copy.deepcopy(ours.state_dict())
    call, hook = torch.compile(ours, backend="aot_eager"), CurvatureHook(h=0.5, weight=2.0)
    opt = torch.optim.SGD(ours.parameters(), lr=0.05)
    for x, y in batches(3):
        opt.zero_grad()
        hook.loss(call, x, lambda out, y=y: F.cross_entropy(out, y)).backward()
        opt.step()
    _train(twin, twin, Twin(twin, h=0.5, weight=2.0))
    assert_same(ours, twin, start, tolerance=1e-5)


def test_compiled_criterion_module() -> None:
    ours, twin = _net(), _net()
    start = copy.deepcopy(ours.state_dict())
    criterion = torch.compile(nn.CrossEntropyLoss(), backend="aot_eager")
    opt = torch.optim.SGD(ours.parameters(), lr=0.05)
    with CurvatureHook(h=0.5):
        for x, y in batches(3):
            opt.zero_grad()
            criterion(ours(x), y).backward()
            opt.step()
    _train(twin, twin, Twin(twin, h=0.5))
    assert_same(ours, twin, start, tolerance=1e-5)


def test_compiled_loss_function_is_refused() -> None:
    net = _net()
    loss_fn = torch.compile(lambda out, y: F.cross_entropy(out, y), backend="aot_eager")
    opt = torch.optim.SGD(net.parameters(), lr=0.05)
    x, y = batches(1)[0]

    def step() -> None:
        with CurvatureHook(h=0.5):
            loss_fn(net(x), y).backward()
            opt.step()

    with pytest.raises(HookError) as error:
        step()
    assert "compiled by torch.compile" in str(error.value)
    assert not getattr(torch._dynamo.config, "nontraceable_tensor_subclasses", ())  # later than PyTorch 2.6


def test_compiled_training_step_is_refused() -> None:
    net = _net()
    loss_of = torch.compile(lambda x, y: F.cross_entropy(net(x), y), backend="aot_eager")
    opt = torch.optim.SGD(net.parameters(), lr=0.05)
    x, y = batches(1)[0]

    def step() -> None:
        with CurvatureHook(h=0.5):
            loss_of(x, y).backward()
            opt.step()

    with pytest.raises(HookError, match="never saw") as error:
        step()
    assert "0 model calls recorded" in str(error.value)


def test_gradient_penalty_with_a_compiled_model_is_refused() -> None:
    net = _net()
    call = torch.compile(net, backend="aot_eager")
    x, y = batches(1)[0]

    def step() -> None:
        with CurvatureHook(h=0.5, penalty="gradient"):
            F.cross_entropy(call(x), y).backward()

    with pytest.raises(HookError, match="differentiates twice") as error:
        step()
    assert "do not compile the model" in str(error.value)
