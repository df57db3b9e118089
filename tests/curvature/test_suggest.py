"""hook.suggest_h: proposes what its sentence says, leaves the model alone, and agrees with a sweep on real digits."""

from __future__ import annotations

import copy

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from guard_plugins.curvature import CurvatureHook
from guard_plugins.errors import ConfigError


def _digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    images, labels = load_digits(return_X_y=True)
    x, y = (torch.tensor(images, dtype=torch.float32) / 16 - 0.3) / 0.37, torch.tensor(labels)
    return x[:1200], y[:1200], x[1200:], y[1200:]


def _net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.SiLU(), nn.Dropout(0.1), nn.Linear(64, 10))


def _train(net: nn.Module, x: Tensor, y: Tensor, epochs: int, hook: CurvatureHook | None = None) -> nn.Module:
    opt = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)

    def loop() -> None:
        g = torch.Generator().manual_seed(1)
        for _ in range(epochs):
            for rows in torch.randperm(len(x), generator=g).split(64):
                opt.zero_grad()
                F.cross_entropy(net(x[rows]), y[rows]).backward()
                opt.step()

    (hook(loop) if hook else loop)()
    return net.eval()


def _robust(net: nn.Module, x: Tensor, y: Tensor, radius: float) -> float:
    """Accuracy under 20 steps of L2 PGD."""
    moved = x.clone()
    for _ in range(20):
        moved.requires_grad_()
        (g,) = torch.autograd.grad(F.cross_entropy(net(moved), y), moved)
        step = (moved + radius / 5 * g / g.norm(dim=1, keepdim=True).clamp_min(1e-12)).detach() - x
        moved = x + step * (radius / step.norm(dim=1, keepdim=True).clamp_min(1e-12)).clamp_max(1)
    return float((net(moved).argmax(1) == y).float().mean())


def test_it_is_the_longest_length_that_fits() -> None:
    x, y, *_ = _digits()
    net = _train(_net(), x, y, 3)
    found = CurvatureHook.suggest_h(net, zip(x.split(100), y.split(100), strict=True))
    bound = 0.25 * (found.wrong - found.loss)
    lengths = [probe.h for probe in found.probes]
    assert lengths == sorted(lengths, reverse=True)
    fits = [probe.h for probe in found.probes if probe.rise <= bound]
    assert found.h == (fits[0] if fits else lengths[-1])
    assert found.h_rms == pytest.approx(found.h / 8)
    assert 0.01 * found.distance <= found.h <= 0.08 * found.distance
    text = str(found)
    for number in (found.h, found.distance, found.loss):
        assert f"{number:.3g}" in text


def test_it_measures_what_the_hook_measures() -> None:
    x, y, *_ = _digits()
    net = _net().eval().double()
    x, y = x[:100].double(), y[:100]
    found = CurvatureHook.suggest_h(net, [(x, y)])
    for probe in found.probes[:3]:
        hook = CurvatureHook(h=probe.h)
        hook.loss(net, x, lambda out: F.cross_entropy(out, y))
        assert hook.last.term == pytest.approx(probe.rise, rel=1e-4)
        assert hook.last.gradient_norm == pytest.approx(found.gradient_norm, rel=1e-4)


def test_it_leaves_everything_as_it_was() -> None:
    x, y, *_ = _digits()
    net = _net()
    before, state = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    CurvatureHook(h=1.0).suggest_h(net, [(x[:50], y[:50])])
    assert net.training
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize(
    ("batches", "word"),
    [([], "0 batches with 0 samples"), ([(torch.rand(1, 64), torch.tensor([1]))], "1 batches with 1 samples")],
)
def test_too_few_samples(batches: list, word: str) -> None:
    with pytest.raises(ConfigError) as error:
        CurvatureHook.suggest_h(_net(), batches)
    assert word in str(error.value)


def test_a_loss_that_ignores_its_input() -> None:
    net = nn.Linear(64, 10)
    nn.init.zeros_(net.weight)
    with pytest.raises(ConfigError, match="depends on the inputs"):
        CurvatureHook.suggest_h(net, [(torch.rand(4, 64), torch.tensor([0, 1, 2, 3]))])


@pytest.mark.slow
def test_the_sweep_on_digits() -> None:
    """At the proposed h the model is more robust than without a hook, and no less accurate than at four times it."""
    x, y, x_test, y_test = _digits()
    found = CurvatureHook.suggest_h(_train(_net(), x, y, 5), zip(x.split(100), y.split(100), strict=True))
    scores = {}
    for factor in (0.0, 1.0, 4.0):
        net = _train(_net(), x, y, 15, CurvatureHook(h=factor * found.h) if factor else None)
        clean = float((net(x_test).argmax(1) == y_test).float().mean())
        scores[factor] = (clean, _robust(net, x_test, y_test, 1.0))
    assert scores[1.0][1] > scores[0.0][1] + 0.02
    assert scores[1.0][0] > scores[0.0][0] - 0.02
    assert scores[1.0][0] > scores[4.0][0]
