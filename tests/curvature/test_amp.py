"""Mixed precision: bf16 autocast, gradient scaling, clipping, the loss inside and outside autocast."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from guard_plugins.curvature import CurvatureHook
from tests.curvature.worlds import Twin, World, as_written, assert_same, world


def loss_inside(w: World, loss_at) -> None:
    scaler, opt = torch.amp.GradScaler("cpu", init_scale=1024.0), w.optimizer()
    for x, y in w.data:
        opt.zero_grad()

        def objective(x, y=y):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = F.cross_entropy(w.net(x), y)
            return scaler.scale(loss)

        loss_at(objective, x).backward()
        scaler.unscale_(opt)
        nn.utils.clip_grad_norm_(w.net.parameters(), 1.0)
        scaler.step(opt)
        scaler.update()


def loss_outside(w: World, loss_at) -> None:
    opt = w.optimizer()
    for x, y in w.data:
        opt.zero_grad()

        def objective(x, y=y):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                out = w.net(x)
            return F.cross_entropy(out.float(), y)

        loss_at(objective, x).backward()
        opt.step()


def backward_inside(w: World, loss_at) -> None:
    opt = w.optimizer()
    for x, y in w.data:
        opt.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss_at(lambda x, y=y: F.cross_entropy(w.net(x), y), x).backward()
        opt.step()


def pure_bfloat16(w: World, loss_at) -> None:
    w.net.bfloat16()
    opt = w.optimizer()
    for x, y in w.data:
        opt.zero_grad()
        loss_at(lambda x, y=y: F.cross_entropy(w.net(x).float(), y), x.bfloat16()).backward()
        opt.step()


@pytest.mark.parametrize("weight", [1.0, 2.0])
@pytest.mark.parametrize("loop", [loss_inside, loss_outside, backward_inside, pure_bfloat16])
def test_loop_equals_twin(loop, weight: float) -> None:
    ours, twin, plain = world(dropout=0.1), world(dropout=0.1), world(dropout=0.1)
    start = copy.deepcopy(ours.net.state_dict())
    hook = CurvatureHook(h=1.5, weight=weight)
    for w, objective in ((ours, as_written), (twin, Twin(twin.net, h=1.5, weight=weight)), (plain, as_written)):
        torch.manual_seed(2)
        if w is ours:
            with hook:
                loop(w, objective)
        else:
            loop(w, objective)
    # the twin sums the gradients of two graphs in bf16, the hook in float32 (pure bf16 weights: a rounding of each)
    tolerance = 0.1 if loop is pure_bfloat16 else 0.03
    assert_same(ours.net, twin.net, start, tolerance=tolerance)
    assert hook.summary().regularised_steps == 4
    with pytest.raises(AssertionError, match="differs by"):  # the tolerance still tells the objectives apart
        assert_same(plain.net, twin.net, start, tolerance=tolerance)


def test_steps_the_scaler_skips_are_no_steps() -> None:
    w = world()
    scaler, opt = torch.amp.GradScaler("cpu", init_scale=3e38), w.optimizer()
    hook = CurvatureHook(h=0.5)
    with hook:
        for x, y in w.data:
            opt.zero_grad()
            scaler.scale(F.cross_entropy(w.net(x), y) * 100).backward()
            scaler.step(opt)
            scaler.update(1.0)
    summary = hook.summary()
    assert (summary.steps, summary.backwards) == (3, 4)
    assert all(p.isfinite().all() for p in w.net.parameters())
