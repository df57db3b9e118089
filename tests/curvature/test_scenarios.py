"""Every style of loop trains, under the hook, exactly what the hand-written twin trains."""

from __future__ import annotations

import copy

import pytest
import torch

from guard_plugins.curvature import CurvatureHook
from tests.curvature.loops import LOOPS
from tests.curvature.worlds import Twin, World, as_written, assert_same, world

SETTINGS = {
    "weight 1": {"weight": 1.0},
    "weight 2": {"weight": 2.0},
    "weight 0.3": {"weight": 0.3},
    "gradient": {"weight": 0.5, "penalty": "gradient"},
}
RECORDED_ONCE = {"gradient argument"}


def _world(name: str) -> World:
    w = world(dropout=0.2)
    w.net.double()
    w.data = [(x.double(), y) for x, y in w.data]
    return w


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", LOOPS)
def test_loop_equals_twin(name: str, setting: str) -> None:
    options = SETTINGS[setting]
    ours, twin = _world(name), _world(name)
    start = copy.deepcopy(ours.net.state_dict())
    hook = CurvatureHook(h=0.5, **options)
    torch.manual_seed(5)
    with hook:
        LOOPS[name](ours, as_written)
    random_after = torch.rand(1)
    torch.manual_seed(5)
    LOOPS[name](twin, Twin(twin.net, h=0.5, **options))
    assert torch.equal(random_after, torch.rand(1)), "the random stream moved"
    assert_same(ours.net, twin.net, start, tolerance=1e-9)
    summary = hook.summary()
    assert summary.backwards >= 2
    assert summary.mean_term is not None
    assert summary.mean_term > 0
