"""The hook's own behaviour: forms, options, counters, summary, leaving no trace."""

from __future__ import annotations

import copy
import dataclasses
import gc
import json
import threading
import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from guard_plugins.curvature import CurvatureHook
from guard_plugins.errors import ConfigError, HookError
from tests.curvature.loops import LOOPS
from tests.curvature.worlds import Twin, World, as_written, assert_same, batches, changes, world

LONG = 1.64  # takes sin² of 0.45 past its top and down to that of −0.23 (mod π)
train = LOOPS["functional"]


def _double(w: World) -> World:
    w.net.double()
    w.data = [(x.double(), y) for x, y in w.data]
    return w


def _fresh() -> World:
    return _double(world())


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({}, "exactly one unit"),
        ({"h": 1.0, "h_rms": 0.1}, "exactly one unit"),
        ({"h": -1.0}, "h must be a positive number"),
        ({"h": float("nan")}, "h must be a positive number"),
        ({"h_rms": 0.0}, "h_rms must be a positive number"),
        ({"h": 1.0, "weight": -1.0}, "weight must be a number"),
        ({"h": 1.0, "every": 0}, "every must be an integer"),
        ({"h": 1.0, "every": 1.5}, "every must be an integer"),
        ({"h": 1.0, "ramp": -1}, "ramp must be an integer"),
        ({"h": 1.0, "penalty": "square"}, "penalty must be one of"),
        ({"h": 1.0, "norm_stats": "mean"}, "norm_stats must be one of"),
        ({"h": 1.0, "penalty": []}, "penalty must be one of"),
        ({"h": 1.0, "model": "net"}, "model must be a torch module"),
        ({"h": 1.0, "input": torch.zeros(2)}, "input must be the name, the place or the key"),
        ({"h": 1.0, "input": True}, "input must be the name, the place or the key"),
    ],
)
def test_bad_options(options: dict, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        CurvatureHook(**options)


def test_decorator_context_and_explicit_form_agree() -> None:
    a, b, c = _fresh(), _fresh(), _fresh()
    start = copy.deepcopy(a.net.state_dict())
    with CurvatureHook(h=0.5):
        train(a, as_written)
    CurvatureHook(h=0.5)(train)(b, as_written)
    hook, opt = CurvatureHook(h=0.5), c.optimizer()
    for x, y in c.data:
        opt.zero_grad()
        hook.loss(c.net, x, lambda out, y=y: F.cross_entropy(out, y)).backward()
        opt.step()
    assert_same(b.net, a.net, start, tolerance=0)
    assert_same(c.net, a.net, start, tolerance=1e-9)
    assert hook.summary().steps == len(c.data)


def test_decorated_function_keeps_its_name_arguments_and_result() -> None:
    w = world()

    @CurvatureHook(h=0.5)
    def train_epoch(w: World, *, factor: int) -> int:
        """Docs."""
        train(w, as_written)
        return 3 * factor

    assert train_epoch(w, factor=2) == 6
    assert (train_epoch.__name__, train_epoch.__doc__) == ("train_epoch", "Docs.")


def test_generators_are_refused() -> None:
    def steps():
        yield 1

    with pytest.raises(ConfigError, match="generator or coroutine"):
        CurvatureHook(h=0.5)(steps)


def test_float32_within_a_millionth_of_the_largest_change() -> None:
    for weight in (1.0, 2.0):
        ours, twin = world(dropout=0.2), world(dropout=0.2)
        start = copy.deepcopy(ours.net.state_dict())
        torch.manual_seed(0)
        with CurvatureHook(h=0.5, weight=weight):
            train(ours, as_written)
        torch.manual_seed(0)
        train(twin, Twin(twin.net, h=0.5, weight=weight))
        assert_same(ours.net, twin.net, start, tolerance=2e-6)


def test_weight_zero_is_bit_identical_to_no_hook() -> None:
    ours, plain = world(dropout=0.3), world(dropout=0.3)
    hook = CurvatureHook(h=0.5, weight=0.0)
    torch.manual_seed(1)
    with hook:
        train(ours, as_written)
    torch.manual_seed(1)
    train(plain, as_written)
    assert all(
        torch.equal(a, b) for a, b in zip(ours.net.state_dict().values(), plain.net.state_dict().values(), strict=True)
    )
    summary = hook.summary()
    assert (summary.steps, summary.regularised_steps, summary.mean_loss) == (4, 0, None)
    x = ours.data[0][0]
    with hook:
        assert hook.watch(x) is x


def test_h_rms_is_h_per_element() -> None:
    a, b = _fresh(), _fresh()
    start = copy.deepcopy(a.net.state_dict())
    with CurvatureHook(h=0.6):
        train(a, as_written)
    with CurvatureHook(h_rms=0.1):  # 36 elements
        train(b, as_written)
    assert_same(b.net, a.net, start, tolerance=1e-9)


class _Sometimes(Twin):
    """A twin that applies the term only at some steps, or with a growing h."""

    def __init__(self, *args, every: int = 1, ramp: int = 0, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.every, self.ramp, self.step, self.full = every, ramp, 0, self.h

    def __call__(self, loss_at, x):
        due = self.step % self.every == 0
        self.h = self.full * (min(1.0, (self.step + 1) / self.ramp) if self.ramp else 1.0)
        self.step += 1
        return super().__call__(loss_at, x) if due else loss_at(x)


@pytest.mark.parametrize("options", [{"every": 2}, {"every": 3, "weight": 2.0}, {"ramp": 3}, {"every": 2, "ramp": 4}])
def test_every_and_ramp(options: dict) -> None:
    ours, twin = _fresh(), _fresh()
    start = copy.deepcopy(ours.net.state_dict())
    hook = CurvatureHook(h=0.5, **options)
    with hook:
        train(ours, as_written)
    train(twin, _Sometimes(twin.net, h=0.5, **options))
    assert_same(ours.net, twin.net, start, tolerance=1e-9)
    expected = len([s for s in range(4) if s % options.get("every", 1) == 0])
    summary = hook.summary()
    assert (summary.steps, summary.regularised_steps) == (4, expected)


def test_every_counts_optimiser_steps_under_accumulation() -> None:
    hook = CurvatureHook(h=0.5, every=2)
    with hook:
        LOOPS["accumulation and clipping"](world(), as_written)  # 4 batches, 2 steps
    summary = hook.summary()
    assert (summary.steps, summary.regularised_steps, summary.backwards) == (2, 1, 2)


def test_skipped_steps_leave_the_input_alone() -> None:
    w = world()
    seen = []
    w.net.register_forward_pre_hook(lambda m, args: seen.append(args[0].requires_grad))
    with CurvatureHook(h=0.5, every=2):
        opt = w.optimizer()
        for x, y in w.data:
            opt.zero_grad()
            F.cross_entropy(w.net(x), y).backward()
            opt.step()
    # self-check and x + z are replays of the first and third step
    assert seen.count(False) >= 2
    assert seen[-1] is False


def test_gradient_function_without_optimiser() -> None:
    """A function that only returns gradients, called again and again: counters advance at the end of each call."""
    w = _fresh()
    x, y = w.data[0]
    params = list(w.net.parameters())
    hook = CurvatureHook(h=0.5, weight=2.0, every=2)

    @hook
    def gradients():
        return torch.autograd.grad(F.cross_entropy(w.net(x), y), params)

    def twin(objective):
        return torch.autograd.grad(objective(lambda x: F.cross_entropy(w.net(x), y), x), params)

    w.net.eval()
    for step in range(6):
        expected = twin(Twin(w.net, h=0.5, weight=2.0)) if step % 2 == 0 else twin(as_written)
        for a, b in zip(gradients(), expected, strict=True):
            assert torch.allclose(a, b, rtol=1e-10, atol=1e-12)
    assert (hook.summary().steps, hook.summary().regularised_steps) == (6, 3)
    assert all(p.grad is None for p in params)


@pytest.mark.parametrize("weight", [1.0, 2.0])
def test_unused_weights_are_treated_as_pytorch_treats_them(weight: float) -> None:
    w = world()
    x, y = w.data[0]
    wanted = [*w.net.parameters(), nn.Parameter(torch.ones(3))]

    def gradients(**options) -> tuple:
        with CurvatureHook(h=0.5, weight=weight):
            return torch.autograd.grad(F.cross_entropy(w.net(x), y), wanted, **options)

    with pytest.raises(RuntimeError, match="have been used in the graph"):
        gradients()
    assert gradients(allow_unused=True)[-1] is None
    assert gradients(materialize_grads=True)[-1].tolist() == [0, 0, 0]


def test_self_check_is_not_repeated_at_every_entry() -> None:
    w = world()
    calls = []
    w.net.register_forward_hook(lambda *a: calls.append(1))
    x, y = w.data[0]

    @CurvatureHook(h=0.5)
    def gradients():
        return torch.autograd.grad(F.cross_entropy(w.net(x), y), list(w.net.parameters()))

    per_call = []
    for _ in range(5):
        calls.clear()
        gradients()
        per_call.append(len(calls))
    assert per_call == [3, 2, 2, 2, 2]


def test_duplicating_a_batch_changes_nothing() -> None:
    for penalty in ("loss", "gradient"):
        grads = []
        for repeat in (1, 3):
            w = _fresh()
            w.net.eval()
            x, y = w.data[0]
            x, y = x.repeat(repeat, 1, 1, 1), y.repeat(repeat)
            with CurvatureHook(h=0.5, weight=2.0, penalty=penalty):
                grads.append(torch.autograd.grad(F.cross_entropy(w.net(x), y), list(w.net.parameters())))
        for a, b in zip(*grads, strict=True):
            assert torch.allclose(a, b, rtol=1e-9, atol=1e-12)


def test_scaling_the_loss_scales_the_gradients() -> None:
    for penalty in ("loss", "gradient"):
        grads = []
        for scale in (1.0, 1024.0):
            w = _fresh()
            x, y = w.data[0]
            with CurvatureHook(h=0.5, weight=2.0, penalty=penalty):
                (F.cross_entropy(w.net(x), y) * scale).backward()
            grads.append([p.grad / scale for p in w.net.parameters()])
        for a, b in zip(*grads, strict=True):
            assert torch.allclose(a, b, rtol=1e-9, atol=1e-12)


def test_where_the_loss_falls_along_z_the_absolute_value_holds() -> None:
    """A step so long that it overshoots: the difference is negative and its sign flips the gradient."""
    for weight in (1.0, 2.0):
        got = []
        for kind in ("hook", "twin"):
            scale = nn.Linear(1, 1, bias=False).double()
            nn.init.constant_(scale.weight, 0.5)
            x = torch.full((4, 1), 0.3, dtype=torch.float64)

            def loss_at(x, scale=scale):
                return torch.sin(scale(x) * 3).square().mean()

            hook = CurvatureHook(h=LONG, weight=weight)
            if kind == "hook":
                with hook:
                    loss_at(x).backward()
                assert hook.last.term > 0
                difference = hook.last.curvature * LONG**2 / 2 + LONG * hook.last.gradient_norm
                assert difference < 0
            else:
                Twin(scale, h=LONG, weight=weight)(loss_at, x).backward()
            got.append(scale.weight.grad)
        assert torch.allclose(got[0], got[1], rtol=1e-10)


def test_curvature_of_a_quadratic_is_exact() -> None:
    """ℓ = mean ½ a ‖x‖²: ‖g_i‖ = a‖x_i‖ and κ = a, whatever h."""

    class Quadratic(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Parameter(torch.tensor(3.0, dtype=torch.float64))

        def forward(self, x):
            return 0.5 * self.a * x.square().sum(1)

    x = torch.randn(16, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for penalty in ("loss", "gradient"):
        hook = CurvatureHook(h=0.7, penalty=penalty)
        with hook:
            Quadratic()(x).mean().backward()
        last = hook.last
        slope = 3 * float(x.norm(dim=1).mean())
        assert last.gradient_norm == pytest.approx(slope, rel=1e-5)
        assert last.curvature == pytest.approx(3.0, rel=1e-4)
        term = 0.7 * slope + 0.5 * 3 * 0.49 if penalty == "loss" else 3 * 0.7
        assert last.term == pytest.approx(term, rel=1e-5)


def test_summary_and_records_serialise() -> None:
    hook = CurvatureHook(h=0.5)
    with hook:
        train(world(), as_written)
    assert json.loads(json.dumps(dataclasses.asdict(hook.summary())))["regularised_steps"] == 4
    assert set(hook.last.scalars("train/")) == {
        "train/loss", "train/term", "train/gradient_norm", "train/curvature"
    }  # fmt: skip
    assert hook.summary().seconds > 0


def test_state_survives_a_restart() -> None:
    whole, first, second = CurvatureHook(h=0.5, every=3), CurvatureHook(h=0.5, every=3), CurvatureHook(h=0.5, every=3)
    a, b = _fresh(), _fresh()
    start = copy.deepcopy(a.net.state_dict())
    with whole:
        train(a, as_written)
    opt = b.optimizer()

    def steps(data):
        for x, y in data:
            opt.zero_grad()
            F.cross_entropy(b.net(x), y).backward()
            opt.step()

    with first:
        steps(b.data[:2])
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    with second:
        steps(b.data[2:])
    assert_same(b.net, a.net, start, tolerance=0)
    got, want = dataclasses.asdict(second.summary()), dataclasses.asdict(whole.summary())
    assert {k: v for k, v in got.items() if k != "seconds"} == pytest.approx(
        {k: v for k, v in want.items() if k != "seconds"}
    )


def test_two_hooks_at_once_raise_and_the_first_goes_on() -> None:
    w = world()
    with CurvatureHook(h=0.5) as hook:
        with pytest.raises(HookError, match="two curvature hooks are active"), CurvatureHook(h=0.5):
            pass
        train(w, as_written)
    assert hook.summary().regularised_steps == 4


def test_a_hook_inside_its_own_context_is_the_same_context() -> None:
    hook = CurvatureHook(h=0.5)
    w = world()

    @hook
    def epoch():
        train(w, as_written)

    @hook
    def epochs():
        epoch()
        epoch()

    epochs()
    assert hook.summary().regularised_steps == 8


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_exceptions_pass_through_and_leave_no_trace(error: type[BaseException]) -> None:
    w = world()
    hook = CurvatureHook(h=0.5)

    def forward_fails(*args):
        raise error

    w.net.register_forward_hook(forward_fails)
    with pytest.raises(error), hook:
        train(w, as_written)
    w = world()
    with hook:
        train(w, as_written)
    assert hook.summary().regularised_steps == 4


def test_exception_in_a_replay_leaves_no_trace() -> None:
    w = world()
    calls = []

    def third_call_fails(*args):
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("replays are not welcome")

    w.net.register_forward_hook(third_call_fails)
    before = copy.deepcopy(dict(w.net.named_buffers()))
    random = torch.get_rng_state()
    w.net.eval()
    with (
        pytest.raises(HookError, match="computing the loss again at another input failed"),
        CurvatureHook(h=0.5),
    ):
        train(w, as_written)
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(v, before[k]) for k, v in w.net.named_buffers())


def test_paused() -> None:
    ours, twin = _fresh(), _fresh()
    start = copy.deepcopy(ours.net.state_dict())
    hook = CurvatureHook(h=0.5)
    with hook:
        train(ours, as_written)
        with hook.paused():
            train(ours, as_written)
    train(twin, Twin(twin.net, h=0.5))
    train(twin, as_written)
    assert_same(ours.net, twin.net, start, tolerance=1e-9)
    assert hook.summary().steps == 4
    with hook.paused():  # outside every context it does nothing
        train(world(), as_written)


def test_other_threads_are_untouched() -> None:
    w, other, plain = world(), world(seed=9), world(seed=9)
    train(plain, as_written)
    errors = []

    def work():
        try:
            train(other, as_written)
        except Exception as error:
            errors.append(error)

    with CurvatureHook(h=0.5) as hook:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        train(w, as_written)
    assert not errors
    assert hook.summary().steps == 4
    assert all(
        torch.equal(a, b) for a, b in zip(other.net.state_dict().values(), plain.net.state_dict().values(), strict=True)
    )


def test_nothing_is_kept_alive() -> None:
    hook = CurvatureHook(h=0.5)

    def scope() -> list[weakref.ref]:
        w = world()
        train(w, as_written)
        x = w.data[0][0]
        out = w.net(x)
        loss = F.cross_entropy(out, w.data[0][1])
        loss.backward()
        return [weakref.ref(o) for o in (w.net, x, out, loss, w.net[0].weight)]

    with hook:
        refs = scope()
    gc.collect()
    assert [ref() for ref in refs] == [None] * 5
    assert hook.summary().backwards == 5


def test_networks_may_come_and_go_inside_one_context() -> None:
    with CurvatureHook(h=0.5) as hook:
        refs = []
        for seed in range(5):
            w = world(seed=seed)
            train(w, as_written)
            refs.append(weakref.ref(w.net))
        del w
        gc.collect()
        assert [ref() for ref in refs] == [None] * 5
    assert hook.summary().regularised_steps == 20


def test_steps_are_freed_without_the_collector() -> None:
    """No reference cycles: what a step allocated is gone when the step is."""
    w = world()
    gc.collect()
    gc.disable()
    try:
        with CurvatureHook(h=0.5):
            train(w, as_written)
            before = len([o for o in gc.get_objects() if isinstance(o, torch.Tensor)])
            for _ in range(5):
                train(w, as_written)
            after = len([o for o in gc.get_objects() if isinstance(o, torch.Tensor)])
    finally:
        gc.enable()
    # a handful of scalars wait for their transfer to the sums
    assert after - before <= 80


@pytest.mark.slow
def test_memory_stays_flat_over_a_thousand_steps() -> None:
    def tensors() -> int:
        gc.collect()
        return sum(isinstance(o, torch.Tensor) for o in gc.get_objects())

    w = world()
    for options in ({"weight": 1.0}, {"weight": 2.0}, {"penalty": "gradient"}, {"every": 4}):
        with CurvatureHook(h=0.5, **options):
            train(w, as_written)
            before = tensors()
            for _ in range(250):  # of four steps each
                train(w, as_written)
            assert tensors() - before <= 80


def test_recorded_tensors_behave_like_tensors(tmp_path) -> None:
    w = world()
    x, y = w.data[0]
    with CurvatureHook(h=0.5):
        loss = F.cross_entropy(w.net(x), y)
        assert f"{loss:.4f}" == f"{loss.item():.4f}"
        assert "grad_fn" in repr(loss)
        assert type(loss.detach()) is torch.Tensor
        assert type(w.net(x).argmax(1)) is torch.Tensor
        copied = copy.deepcopy(w.net(x).detach())
        torch.save(loss.detach(), tmp_path / "loss.pt")
        torch.save(loss, tmp_path / "graph.pt")
        loss.backward()
    assert type(copied) is torch.Tensor
    assert type(torch.load(tmp_path / "graph.pt", weights_only=True)) is torch.Tensor
    assert float(loss) == pytest.approx(loss.item())


def test_training_under_the_hook_flattens_the_loss() -> None:
    """On held-out images both the difference along z and the curvature end lower than without the hook."""
    measured = {}
    held_out = batches(2, 64, seed=99)
    for weight in (0.0, 1.0):
        w = world()
        w.data = batches(60, 32)
        with CurvatureHook(h=1.5, weight=weight):
            train(w, as_written)
        w.net.eval()
        probe = CurvatureHook(h=1.5)
        for x, y in held_out:
            probe.loss(w.net, x, lambda out, y=y: F.cross_entropy(out, y))
        measured[weight] = probe.summary()
    assert measured[1.0].mean_term < 0.8 * measured[0.0].mean_term
    assert measured[1.0].mean_gradient_norm < 0.8 * measured[0.0].mean_gradient_norm
    assert measured[1.0].mean_curvature < measured[0.0].mean_curvature
    assert changes(w.net, copy.deepcopy(world().net.state_dict())) > 0
