"""``every`` and ``ramp`` count the steps of each model, whatever else trains under the hook."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from guard_plugins.curvature import CurvatureHook
from guard_plugins.errors import HookError
from tests.curvature.gaps import H, by_hand, distance, filled

X = torch.randn(6, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.tensor([0, 1, 2, 3, 1, 0])


def _net(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 4)).double()


def _regularised(net: nn.Module, hook: CurvatureHook, opt: torch.optim.Optimizer, *, watch: bool = False) -> bool:
    """Take one step; return whether its gradients are those of the objective rather than of the plain loss."""
    opt.zero_grad()
    x = hook.watch(X.clone()) if watch else X.clone()
    F.cross_entropy(net(x), Y).backward()
    weights = list(net.parameters())
    ours = filled([p.grad for p in weights], weights)
    with hook.paused():
        loss = lambda x: F.cross_entropy(net(x), Y)  # noqa: E731
        expected = by_hand(loss, [X], weights)
        plain = filled(torch.autograd.grad(loss(X), weights), weights)
    opt.step()
    assert (distance(ours, expected) <= 1e-9) != (distance(ours, plain) <= 1e-9)
    return distance(ours, expected) <= 1e-9


def test_two_models_in_turn_are_both_regularised_every_second_step() -> None:
    for watch in (False, True):
        a, b = _net(1), _net(2)
        opt_a, opt_b = torch.optim.SGD(a.parameters(), 0.1), torch.optim.SGD(b.parameters(), 0.1)
        with CurvatureHook(h=H, every=2) as hook:
            turns = [
                (_regularised(a, hook, opt_a, watch=watch), _regularised(b, hook, opt_b, watch=watch)) for _ in range(4)
            ]
        assert turns == [(True, True), (False, False)] * 2
        assert hook.summary().steps == 8
        assert hook.summary().regularised_steps == 4


def test_one_step_of_two_optimisers_on_one_model_counts_once() -> None:
    net = _net(1)
    first, last = torch.optim.SGD(net[0].parameters(), 0.1), torch.optim.SGD(net[2].parameters(), 0.1)

    class Both:
        def zero_grad(self) -> None:
            net.zero_grad()

        def step(self) -> None:
            first.step()
            last.step()

    with CurvatureHook(h=H, every=3) as hook:
        assert [_regularised(net, hook, Both()) for _ in range(6)] == [True, False, False] * 2


def test_three_models_that_step_unequally() -> None:
    nets = [_net(seed) for seed in range(3)]
    opts = [torch.optim.SGD(net.parameters(), 0.1) for net in nets]
    found: list[list[bool]] = [[], [], []]
    with CurvatureHook(h=H, every=2) as hook:
        for which in (0, 0, 1, 2, 2, 2, 1, 0):
            found[which].append(_regularised(nets[which], hook, opts[which]))
    assert found == [[True, False, True], [True, False], [True, False, True]]


def test_a_second_training_has_its_own_ramp() -> None:
    hook = CurvatureHook(h=H, ramp=4)

    @hook
    def train(net: nn.Module) -> list[float]:
        opt, lengths = torch.optim.SGD(net.parameters(), 0.0), []
        for _ in range(4):
            F.cross_entropy(net(X), Y).backward()
            opt.step()
            lengths.append(hook.last.term)
        return lengths

    first, second = train(_net(1)), train(_net(1))
    assert first == second
    assert first[0] < 0.5 * first[3]
    third = _net(1)
    assert train(third) == first
    assert train(third)[0] == first[3]  # the same model goes on where it was


def test_a_resumed_training_goes_on() -> None:
    first, second = CurvatureHook(h=H, ramp=4), CurvatureHook(h=H, ramp=4)
    net = _net(1)
    opt = torch.optim.SGD(net.parameters(), 0.0)

    def step(hook: CurvatureHook) -> Tensor:
        F.cross_entropy(net(X), Y).backward()
        opt.step()
        return hook.last.term

    with first:
        whole = [step(first) for _ in range(4)]
    fresh = CurvatureHook(h=H, ramp=4)
    with fresh:
        begun = [step(fresh) for _ in range(2)]
    second.load_state_dict(fresh.state_dict())
    with second:
        assert begun + [step(second) for _ in range(2)] == whole


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("explicit", [False, True], ids=["recorded", "explicit"])
@pytest.mark.parametrize("through_data", [False, True], ids=["in place", "data"])
@pytest.mark.parametrize("settings", [{}, {"ramp": 12}, {"every": 3}], ids=["plain", "ramp", "every"])
def test_steps_made_by_hand_are_counted_where_every_one_is_alike_and_refused_elsewhere(
    settings: dict[str, int], parts: int, explicit: bool, through_data: bool
) -> None:
    net, hook = _net(3), CurvatureHook(h=H, **settings)
    refused = pytest.raises(HookError, match="this loop updates its weights itself") if settings else nullcontext()
    with refused as caught, hook:
        for _ in range(20):
            net.zero_grad()
            for _ in range(parts):
                loss = hook.loss(net, X, lambda out: F.cross_entropy(out, Y)) if explicit else None
                ((F.cross_entropy(net(X.clone()), Y) if loss is None else loss) / parts).backward()
            _update(net, through_data=through_data)
        float(F.cross_entropy(net(X.clone()), Y))  # an evaluation that takes no step
    if settings:
        assert caught is not None
        assert "open a context for each step" in caught.value.do
    else:
        assert (hook.summary().steps, hook.summary().regularised_steps) == (20, 20)


@pytest.mark.parametrize("alone", [False, True], ids=["one context", "a context each"])
def test_a_context_for_each_step_made_by_hand_counts_as_an_optimisers_steps(alone: bool) -> None:
    """The advice of the refusal: ``every`` and ``ramp`` then train what they train under an optimiser."""
    trained = []
    for manual in (False, True):
        net, hook = _net(3), CurvatureHook(h=H, every=2, ramp=6)
        opt = torch.optim.SGD(net.parameters(), 0.1)
        with nullcontext() if alone or manual else hook:
            for _ in range(12):
                with hook if alone or manual else nullcontext():
                    net.zero_grad()
                    F.cross_entropy(net(X.clone()), Y).backward()
                    _update(net, through_data=False) if manual else opt.step()
        assert (hook.summary().steps, hook.summary().regularised_steps) == (12, 6)
        trained.append([p.detach().clone() for p in net.parameters()])
    for one, other in zip(*trained, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("alone", [False, True], ids=["one context", "a context each"])
@pytest.mark.parametrize("kind", ["lbfgs", "sam", "clipped", "noisy"])
def test_weights_that_change_within_a_step_of_an_optimiser_make_no_further_step(kind: str, alone: bool) -> None:
    net, hook = _net(3), CurvatureHook(h=H, every=2)
    opt: torch.optim.Optimizer = torch.optim.SGD(net.parameters(), 0.05)
    if kind == "lbfgs":
        opt = torch.optim.LBFGS(net.parameters(), lr=0.1, max_iter=12)
    seen = []
    with nullcontext() if alone else hook:
        for _ in range(4):
            with hook if alone else nullcontext():
                before = hook.summary().backwards
                _STEPS[kind](net, opt)
                seen.append(hook.summary().backwards - before)
    assert hook.summary().steps == 4
    assert [bool(count) for count in seen] == [True, False, True, False]
    assert len({count for count in seen if count}) <= (2 if kind == "lbfgs" else 1)  # the whole step, or nothing of it


def _grad(net: nn.Module) -> Tensor:
    net.zero_grad()
    loss = F.cross_entropy(net(X.clone()), Y)
    loss.backward()
    return loss


def _lbfgs(net: nn.Module, opt: torch.optim.Optimizer) -> None:
    opt.step(lambda: float(_grad(net).detach()))


def _sam(net: nn.Module, opt: torch.optim.Optimizer) -> None:
    _grad(net)
    moves = [0.01 * p.grad for p in net.parameters() if p.grad is not None]
    with torch.no_grad():
        for p, move in zip(net.parameters(), moves, strict=True):
            p += move
    _grad(net)
    with torch.no_grad():
        for p, move in zip(net.parameters(), moves, strict=True):
            p -= move
    opt.step()


def _clipped(net: nn.Module, opt: torch.optim.Optimizer) -> None:
    for _ in range(2):
        for p in net.parameters():
            p.data.clamp_(-0.3, 0.3)
        F.cross_entropy(net(X.clone()), Y).backward()
    opt.step()
    opt.zero_grad()


def _noisy(net: nn.Module, opt: torch.optim.Optimizer) -> None:
    for sign in (1, -1):
        with torch.no_grad():
            for p in net.parameters():
                p += sign * 0.01
        F.cross_entropy(net(X.clone()), Y).backward()
    opt.step()
    opt.zero_grad()


_STEPS = {"lbfgs": _lbfgs, "sam": _sam, "clipped": _clipped, "noisy": _noisy}


def test_several_models_that_a_loop_updates_itself_train_as_before() -> None:
    first, last = _net(3), _net(4)
    others = torch.randn(6, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with CurvatureHook(h=H) as hook:
        for _ in range(12):
            for net in (first, last):
                net.zero_grad()
            (F.cross_entropy(first(X.clone()), Y) + F.cross_entropy(last(others.clone()), Y)).backward()
            for net in (first, last):
                _update(net, through_data=False)
    assert hook.summary().regularised_steps == hook.summary().steps == 12


def _update(net: nn.Module, *, through_data: bool) -> None:
    for weight in net.parameters():
        assert weight.grad is not None
        if through_data:
            weight.data -= 0.1 * weight.grad
        else:
            with torch.no_grad():
                weight -= 0.1 * weight.grad
