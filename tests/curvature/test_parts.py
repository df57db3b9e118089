"""The small parts: nested structures, random states, buffers, the penalty's formulas."""

from __future__ import annotations

import collections
import dataclasses
import math
import random

import pytest
import torch
from torch import nn

from guard_plugins.curvature.objective.options import Options
from guard_plugins.curvature.objective.penalty import curvature, gradient_term, sample_norms, step_along
from guard_plugins.curvature.state.module_state import Buffers
from guard_plugins.curvature.state.pytree import contents_of, leaves_of, map_leaves, replace_leaves
from guard_plugins.curvature.state.snapshots import RandomState, evaluation_mode

Pair = collections.namedtuple("Pair", "a b")


@dataclasses.dataclass(frozen=True)
class Frozen:
    x: object
    y: object


@pytest.mark.parametrize(
    "value",
    [
        3,
        (1, [2, {"k": 3}], None),
        Pair(1, (2, 3)),
        collections.OrderedDict(a=1, b=[2]),
        Frozen(1, {"z": [2, 3]}),
        torch.max(torch.tensor([[1.0, 2.0]]), dim=1),
    ],
)
def test_structures_are_rebuilt_in_kind(value: object) -> None:
    same = replace_leaves(value, leaves_of(value))
    assert type(same) is type(value)
    assert leaves_of(same) == leaves_of(value)
    assert leaves_of(map_leaves(lambda v: "new", value)) == ["new"] * len(leaves_of(value))


def test_attrs_classes_are_rebuilt_in_kind() -> None:
    attr = pytest.importorskip("attr")
    made = attr.make_class("Made", ["x", "y"], frozen=True)(1, [2, {"z": 3}])
    same = replace_leaves(made, leaves_of(made))
    assert same == made
    assert same is not made
    assert leaves_of(made) == [1, 2, 3]


def test_contents_of_unknown_objects_are_found_in_order() -> None:
    class Thing:
        def __init__(self) -> None:
            self.a, self.b = torch.ones(1), {"c": [torch.zeros(2)]}
            self.itself = self

    thing = Thing()
    found = [leaf for leaf in contents_of([thing, 3]) if isinstance(leaf, torch.Tensor)]
    assert [len(t) for t in found] == [1, 2]


def test_unknown_classes_are_leaves() -> None:
    thing = object()
    assert leaves_of([thing, {"k": thing}]) == [thing, thing]


def test_random_streams() -> None:
    saved = RandomState.save()
    first = (random.random(), float(torch.rand(1)))
    saved.restore()
    assert (random.random(), float(torch.rand(1))) == first


def test_buffers_written_in_place_or_replaced() -> None:
    net = nn.BatchNorm1d(2)
    kept = net.running_mean
    saved = Buffers([net])
    net(torch.randn(8, 2) + 3)
    net.running_var = torch.full((2,), 9.0)
    version = kept._version
    saved.restore()
    assert net.running_mean is kept
    assert kept.tolist() == [0, 0]
    assert net.running_var.tolist() == [1, 1]
    assert int(net.num_batches_tracked) == 0
    assert kept._version == version  # graphs that saved it stay valid


def test_evaluation_mode_restores_each_flag() -> None:
    net = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout()))
    net[1].eval()
    with evaluation_mode([net]):
        assert not any(m.training for m in net.modules())
    assert [m.training for m in net.modules()] == [True, True, False, False]


def test_step_has_length_h_along_the_gradient() -> None:
    g = torch.randn(5, 3, 4, dtype=torch.float64)
    g[2] = 0
    z = step_along(g, sample_norms(g), 0.25)
    lengths = z.flatten(1).norm(dim=1)
    assert torch.allclose(lengths, torch.tensor([0.25, 0.25, 0, 0.25, 0.25], dtype=torch.float64))
    assert torch.allclose((z * g).flatten(1).sum(1), 0.25 * g.flatten(1).norm(dim=1))
    assert torch.equal(step_along(g * 1e-9, sample_norms(g * 1e-9), 0.25).isfinite(), torch.ones_like(g).bool())


def test_half_precision_gradients_do_not_overflow() -> None:
    g = torch.full((2, 5000), 600.0, dtype=torch.float16)
    norms = sample_norms(g)
    assert norms.dtype == torch.float32
    assert norms.isfinite().all()
    z = step_along(g, norms, 1.0)
    assert z.dtype == torch.float16
    assert float(z.float().norm(dim=1)[0]) == pytest.approx(1.0, rel=1e-2)


def test_gradient_term_sums_over_samples_and_inputs() -> None:
    a, b = torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.tensor([[1.0], [1.0]])
    term = gradient_term([a, b], [torch.zeros_like(a), torch.zeros_like(b)])
    assert float(term) == pytest.approx(5 + 0 + 1 + 1)


def test_curvature_formula() -> None:
    """ℓ(t) = 2t + 3t² along z: slope 2, second derivative 6."""
    h = 0.1
    assert float(curvature(torch.tensor(2 * h + 3 * h * h), torch.tensor(2 * h), h)) == pytest.approx(6, rel=1e-4)


def test_step_length() -> None:
    assert Options(h=2.0).step_length(100, 0) == 2.0
    assert Options(h_rms=0.1).step_length(400, 7) == pytest.approx(2.0)
    ramped = [Options(h=2.0, ramp=4).step_length(9, s) for s in range(6)]
    assert ramped == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]
    assert [Options(h=1.0, every=3).due(s) for s in range(5)] == [True, False, False, True, False]
    assert not Options(h=1.0, weight=0.0).due(0)
    assert math.isclose(Options(h_rms=3.4 / 255).step_length(3072, 0), 0.739, rel_tol=1e-2)
