"""State of models: attributes, flags, weights, random streams, other models; put back, or refused when it changes."""

from __future__ import annotations

import collections
import itertools
import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize

from guard_plugins.curvature import CurvatureHook
from guard_plugins.errors import HookError
from tests.curvature.gaps import H, by_hand, distance, filled, gap, under_hook

X = torch.randn(6, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.tensor([0, 1, 2, 3, 1, 0])
CE = F.cross_entropy


class Keeps(nn.Module):
    """Keeps things from call to call."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.a, self.b = nn.Linear(16, 8), nn.Linear(8, 4)
        self.calls, self.log, self.seen = 0, [], {}
        self.recent, self.names = collections.deque(maxlen=3), set()
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.features = self.a(x).tanh()
        self.log.append(float(self.features.detach().sum()))
        self.recent.append(self.calls)
        self.names.add(self.calls)
        self.seen["features"] = self.features
        return self.b(self.features)


@pytest.mark.parametrize("options", [{}, {"weight": 2.0}, {"penalty": "gradient"}, {"norm_stats": "running"}])
def test_attributes_are_those_of_the_loop_s_own_call(options: dict) -> None:
    net = Keeps()
    expected = net.a(X).tanh()
    with CurvatureHook(h=H, **options):
        CE(net(X), Y).backward()
    assert torch.equal(net.features, expected)
    assert net.seen["features"] is net.features
    assert (net.calls, len(net.log), list(net.recent), net.names) == (1, 1, [1], {1})
    before = net.features
    CurvatureHook(h=H, **options).loss(lambda x: net(x), X, lambda out: CE(out, Y)).backward()
    assert net.calls == 2
    assert torch.equal(net.features, before)


KEPT: dict[str, Callable[[Keeps, Tensor], Tensor]] = {
    "an auxiliary loss": lambda net, x: CE(net(x), Y) + 0.1 * net.features.square().mean(),
    "features alone in one part": lambda net, x: CE(net(x), Y) + net.seen["features"].abs().mean(),
    "features in another module": lambda net, x: CE(net(x) + net.b(net.features), Y),
}


@pytest.mark.parametrize("weight", [1.0, 2.0])
@pytest.mark.parametrize("name", KEPT)
def test_a_loss_of_what_the_module_kept_is_refused(name: str, weight: float) -> None:
    net = Keeps()
    with pytest.raises(HookError, match="cannot follow") as error:
        gap(net, lambda x: KEPT[name](net, x), X.clone(), hook=CurvatureHook(h=H, weight=weight))
    assert "kept by a module or a forward hook" in str(error.value)


def test_features_of_a_call_whose_result_was_dropped_are_refused() -> None:
    net, other = Keeps(), nn.Linear(16, 4).double()

    def loop(x: Tensor, z: Tensor, *, keep: bool) -> Tensor:
        out = net(z)
        if not keep:
            del out
        return CE(other(x), Y) + net.features.square().mean()

    for keep in (True, False):
        with pytest.raises(HookError, match="cannot follow"), CurvatureHook(h=H):
            loop(X.clone(), X * 2, keep=keep).backward()
        with pytest.raises(HookError, match="cannot follow"), CurvatureHook(h=H) as hook:
            loop(hook.watch(X.clone()), hook.watch(X * 2), keep=keep).backward()


@pytest.mark.parametrize("weight", [1.0, 2.0])
@pytest.mark.parametrize("steps", [3])
def test_a_condition_set_on_the_module(steps: int, weight: float) -> None:
    class Conditioned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(1)
            self.a, self.b, self.embed = nn.Linear(16, 8), nn.Linear(8, 4), nn.Embedding(4, 8)
            self.double()

        def forward(self, x: Tensor) -> Tensor:
            return self.b((self.a(x) * self.condition).tanh())

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = Conditioned()

    def loop(outer: Wrapped, x: Tensor) -> Tensor:
        outer.net.condition = outer.net.embed(Y)
        return CE(outer.net(x), Y)

    outer = Wrapped()
    for _ in range(steps):  # what an earlier step left on the module must not matter
        hook = CurvatureHook(h=H, weight=weight)
        assert gap(outer, lambda x: loop(outer, x), X.clone(), hook=hook) <= 1e-9

    def with_features_of_x(x: Tensor) -> Tensor:
        outer.net.condition = outer.net.a(x)
        return CE(outer.net(x), Y)

    with pytest.raises(HookError, match="was set on Conditioned"):
        gap(outer, with_features_of_x, X.clone())


class Tuned(nn.Module):
    """Multiplies by whatever is set on it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.inner, self.drop = nn.Linear(16, 4), nn.Dropout(0.5)
        self.gain, self.table, self.calls = 1.0, {"gain": [1.0]}, 0
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.inner(self.drop(x)) * self.gain * self.table["gain"][0] * (1 + self.calls % 2)


def _gain(net: Tuned, value: float) -> None:
    net.gain = value


def _data(net: Tuned, value: float) -> None:
    net.gain = NOISE[:, :1] * value


def _table(net: Tuned, value: float) -> None:
    net.table = {"gain": [value]}


def _entry(net: Tuned, value: float) -> None:
    net.table["gain"] = [value]


def _dropout(net: Tuned, value: float) -> None:
    net.drop.train(value > 1)


SETTERS = {"a number": _gain, "a tensor": _data, "a dict": _table, "an entry": _entry, "a part's mode": _dropout}
NOISE = torch.randn(6, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("weight", [1.0, 2.0])
@pytest.mark.parametrize("name", SETTERS)
def test_each_call_is_made_again_with_the_attributes_it_had(name: str, weight: float) -> None:
    """Also where a large constant hides the difference from a comparison of losses."""
    net, tune = Tuned(), SETTERS[name]

    def loop(x: Tensor) -> Tensor:
        torch.manual_seed(2)
        net.calls = 0
        tune(net, 0.7)
        first = net(x)
        tune(net, 1.4)
        total = CE(first + net(x), Y) + 1e9
        tune(net, 3.0)
        return total

    assert gap(net, loop, X.clone(), hook=CurvatureHook(h=H, weight=weight), watch=True) <= 1e-9
    assert net.calls == 2


def test_a_recurrent_state_that_a_module_keeps() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(1)
            self.cell, self.out, self.state = nn.GRU(4, 8, batch_first=True), nn.Linear(8, 4), None
            self.double()

        def forward(self, x: Tensor) -> Tensor:
            features, state = self.cell(x.view(6, 4, 4), self.state)
            self.state = state.detach()
            return self.out(features[:, -1])

    net, hook = Recurrent(), CurvatureHook(h=H)
    for _ in range(3):
        before = net.state
        ours = under_hook(net, lambda _: CE(net(X.clone()), Y), hook)

        def loss(x: Tensor, before: Tensor | None = before) -> Tensor:
            net.state = before
            return CE(net(x), Y)

        after = net.state
        assert distance(ours, by_hand(loss, [X], list(net.parameters()))) <= 1e-9
        net.state = after


def test_lazy_layers_without_shapes() -> None:
    net = nn.Sequential(nn.LazyLinear(8), nn.Tanh(), nn.LazyLinear(4)).double()
    with pytest.raises(HookError, match="shapes from the first batch") as error, CurvatureHook(h=H):
        net(X)
    assert "call it once on a batch" in str(error.value)
    net(X)
    assert gap(net, lambda x: CE(net(x), Y), X.clone()) <= 1e-9


@pytest.mark.parametrize("weight", [1.0, 2.0, 0.3])
def test_cached_parametrisations(weight: float) -> None:
    torch.manual_seed(3)
    net = nn.Sequential(nn.Linear(16, 8), nn.Tanh(), parametrizations.weight_norm(nn.Linear(8, 4))).double()

    def run(hook: CurvatureHook) -> Tensor:
        return CE(net(X), Y)

    net.zero_grad()
    with CurvatureHook(h=H, weight=weight) as hook, parametrize.cached():
        run(hook).backward()
    ours = filled([p.grad for p in net.parameters()], list(net.parameters()))
    assert distance(ours, by_hand(lambda x: CE(net(x), Y), [X], list(net.parameters()), weight=weight)) <= 1e-9


def _steps_until_refused(loss_of: Callable[[int, Keeps, Tensor], Tensor], words: str, steps: int = 6) -> int:
    net, done = Keeps(), 0
    opt = torch.optim.SGD(net.parameters(), 0.01)

    def train() -> None:
        nonlocal done
        with CurvatureHook(h=H):
            for step in range(steps):
                opt.zero_grad()
                loss_of(step, net, X.clone()).backward()
                opt.step()
                done += 1

    with pytest.raises(HookError, match=words):
        train()
    return done


def _hooked(net: Keeps, x: Tensor) -> Tensor:
    out = net(x)
    out.register_hook(lambda g: g * 2)
    return CE(out, Y)


def _retained(net: Keeps, x: Tensor) -> Tensor:
    out = net(x)
    out.retain_grad()
    return CE(out, Y)


def _data_written(net: Keeps, x: Tensor) -> Tensor:
    out = net(x)
    out.data.mul_(3)
    return CE(out, Y)


def _rows_of_data_written(net: Keeps, x: Tensor) -> Tensor:
    out = net(x) * 1.0
    out.data[0].zero_()
    return CE(out, Y)


def _weights_written(net: Keeps, x: Tensor) -> Tensor:
    loss = CE(net(x), Y)
    net.b.weight.data.mul_(1.5)
    return loss


def _bias_written(net: Keeps, x: Tensor) -> Tensor:
    loss = CE(net(x), Y)
    with torch.no_grad():
        net.b.bias.add_(1.0)
    return loss


LATE: dict[str, tuple[Callable[[Keeps, Tensor], Tensor], str]] = {
    "a tensor hook": (_hooked, r"cannot be computed again"),
    "a retained gradient": (_retained, r"cannot be computed again"),
    "outputs written through .data": (_data_written, r"cannot be computed again"),
    "rows written through .data": (_rows_of_data_written, r"cannot be computed again"),
    "weights written through .data": (_weights_written, r"weights of Keeps were written"),
    "a bias written in place": (_bias_written, r"weights of Keeps were written"),
}


@pytest.mark.parametrize("start", [0, 3])
@pytest.mark.parametrize("name", LATE)
def test_a_behaviour_is_refused_at_the_step_it_begins(name: str, start: int) -> None:
    behaviour, words = LATE[name]
    done = _steps_until_refused(lambda s, net, x: behaviour(net, x) if s >= start else CE(net(x), Y), words)
    assert done == start


@pytest.mark.parametrize("stream", ["numpy", "python", "torch"])
def test_global_random_streams_are_shared(stream: str) -> None:
    def draw() -> float:
        match stream:
            case "numpy":
                return float(np.random.rand())
            case "python":
                return random.random()
            case _:
                return float(torch.rand(()))

    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(1)
            self.a, self.b = nn.Linear(16, 8), nn.Linear(8, 4)
            self.double()

        def forward(self, x: Tensor) -> Tensor:
            if draw() < 0.3:
                x = x * 3
            return self.b((self.a(x) * (1 + draw())).tanh())

    net = Noisy()
    for start in range(6):

        def seeded(x: Tensor, start: int = start) -> Tensor:
            np.random.seed(start)
            random.seed(start)
            torch.manual_seed(start)
            return CE(net(x), Y)

        assert gap(net, seeded, X.clone()) <= 1e-9
        after = draw()
        seeded(X)
        assert draw() == after


def test_a_second_model_in_one_context_is_checked_too() -> None:
    class Impure(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.calls = nn.Linear(16, 4).double(), itertools.count(1)

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x) * next(self.calls)

    first, second = nn.Linear(16, 4).double(), Impure()

    def train() -> None:
        with CurvatureHook(h=H):
            for net in (first, first, second):
                opt = torch.optim.SGD(net.parameters(), 0.1)
                opt.zero_grad()
                CE(net(X), Y).backward()
                opt.step()

    with pytest.raises(HookError, match="not the loop's loss"):
        train()


def test_adversarial_pairs_equal_their_twins() -> None:
    """A generator and a discriminator whose weights are frozen while the generator steps, as GAN scripts do."""

    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(1)
            self.g, self.d = nn.Linear(4, 16), nn.Sequential(nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 1))
            self.double()

    def of(score: Tensor, real: bool) -> Tensor:
        return F.binary_cross_entropy_with_logits(score, torch.full_like(score, float(real)))

    noise = torch.randn(6, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def train(hook: CurvatureHook | None, *, no_grad: bool, frozen: bool) -> Pair:
        pair = Pair()
        d, g = torch.optim.SGD(pair.d.parameters(), 0.1), torch.optim.SGD(pair.g.parameters(), 0.1)
        for _ in range(3):
            d.zero_grad()
            with torch.set_grad_enabled(not no_grad):
                fake = pair.g(noise)
            fake = fake.detach()
            _backward(lambda r, f: of(pair.d(r), True) + of(pair.d(f), False), [X.clone(), fake], hook)
            d.step()
            g.zero_grad()
            pair.d.requires_grad_(not frozen)
            _backward(lambda z: of(pair.d(pair.g(z)), True), [noise.clone()], hook)
            pair.d.requires_grad_(True)
            g.step()
        return pair

    def _backward(f: Callable[..., Tensor], xs: list[Tensor], hook: CurvatureHook | None) -> None:
        if hook is not None:
            f(*xs).backward()
            return
        leaves = [x.requires_grad_() for x in xs]
        loss = f(*leaves)
        grads = torch.autograd.grad(loss, leaves, retain_graph=True)
        moved = [(x + H * g / g.norm(dim=1, keepdim=True)).detach() for x, g in zip(leaves, grads, strict=True)]
        (loss + (f(*moved) - loss).abs()).backward()

    for no_grad in (False, True):
        for frozen in (False, True):
            with CurvatureHook(h=H) as hook:
                ours = train(hook, no_grad=no_grad, frozen=frozen)
            twin = train(None, no_grad=no_grad, frozen=frozen)
            assert distance(list(ours.parameters()), list(twin.parameters())) <= 1e-9


MASKS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean over a mask": lambda v: v[v > 0].sum() / (v > 0).sum(),
    "where": lambda v: torch.where(v > 0.1, v, 0.2 * v).mean(),
    "hardest in the batch": lambda v: (v - v[torch.cdist(v, v).argmax(1)]).square().mean(),
    "top of each row": lambda v: v.gather(1, v.topk(2).indices).mean(),
    "sorted": lambda v: (v[v.sum(1).argsort()] * torch.arange(6.0)[:, None]).mean(),
    "pseudo labels": lambda v: CE(v, v.argmax(1)),
}


class Buffered(nn.Module):
    """The same loss in a criterion with a buffer, which is replayed as a whole."""

    def __init__(self, loss: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.loss = loss
        self.register_buffer("one", torch.ones(()))

    def forward(self, v: Tensor) -> Tensor:
        return self.loss(v) * self.one


@pytest.mark.parametrize("buffered", [False, True])
@pytest.mark.parametrize("name", MASKS)
def test_masks_are_computed_again_with_or_without_a_buffer(name: str, buffered: bool) -> None:
    net = Keeps()
    loss = Buffered(MASKS[name]) if buffered else MASKS[name]
    for h in (0.5, 3.0):
        hook = CurvatureHook(h=h)
        ours = under_hook(net, lambda hook: loss(net(X)), hook)
        leaf = X.clone().requires_grad_()
        here = MASKS[name](net(leaf))
        (g,) = torch.autograd.grad(here, leaf, retain_graph=True)
        there = MASKS[name](net((leaf + h * g / g.norm(dim=1, keepdim=True).clamp_min(1e-16)).detach()))
        weights = list(net.parameters())
        twin = filled(torch.autograd.grad(here + (there - here).abs(), weights, allow_unused=True), weights)
        assert distance(ours, twin) <= 1e-9


class Outputs:
    """A plain class of outputs, of one's own."""

    def __init__(self, logits: Tensor) -> None:
        self.parts = {"logits": [logits]}


OBJECTS: dict[str, tuple[Callable[[Tensor], object], Callable[[object], Tensor]]] = {
    "a plain object": (Outputs, lambda out: CE(out.parts["logits"][0], Y)),
    "a distribution": (
        lambda v: torch.distributions.Categorical(logits=v),
        lambda out: -out.log_prob(Y).mean(),
    ),
    "a normal distribution": (
        lambda v: torch.distributions.Normal(v[:, :2], v[:, 2:].exp()),
        lambda out: -out.log_prob(torch.ones(6, 2)).mean(),
    ),
}


@pytest.mark.parametrize("name", OBJECTS)
def test_objects_as_outputs(name: str) -> None:
    make, loss = OBJECTS[name]

    class Net(Keeps):
        def forward(self, x: Tensor) -> object:
            return make(super().forward(x))

    net = Net()
    assert gap(net, lambda x: loss(net(x)), X.clone()) <= 1e-9


def test_an_iterator_as_output_is_named() -> None:
    class Net(Keeps):
        def forward(self, x: Tensor) -> object:
            return iter([super().forward(x)])

    net = Net()
    opt = torch.optim.SGD(net.parameters(), 0.1)

    def step() -> None:
        with CurvatureHook(h=H):
            CE(next(net(X)), Y).backward()
            opt.step()

    with pytest.raises(HookError, match="never saw") as error:
        step()
    assert "Net: its result of type list_iterator is not looked into" in str(error.value)
