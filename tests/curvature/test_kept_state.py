"""State that calls advance, keep or hand back: replays start where the loop's call did, and leave no trace."""

from __future__ import annotations

import collections
import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parameters_to_vector, parametrizations, vector_to_parameters

from guard_plugins.curvature import CurvatureHook
from guard_plugins.errors import HookError
from tests.curvature.gaps import H, distance, filled, gap

GENERATOR = torch.Generator().manual_seed(5)
BATCHES = [
    (torch.randn(6, 16, generator=GENERATOR, dtype=torch.float64), torch.randint(0, 4, (6,), generator=GENERATOR))
    for _ in range(4)
]
X, Y = BATCHES[0]
CE = F.cross_entropy
WAYS = [{}, {"weight": 2.0}, {"penalty": "gradient"}]


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(1)
    return build().double()


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 4))


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = mlp()


# --- what a module keeps or hands back -----------------------------------------------------------------------------


class KeepsInput(Base):
    prev: Tensor | None = None

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        moved = x if self.prev is None else x - self.prev.detach().mean(0)
        self.prev = x
        return {"logits": self.net(moved), "inputs": x}


def test_an_input_that_a_module_keeps_or_returns_stays_whole() -> None:
    found = []
    for hook in (None, CurvatureHook(h=1e-9)):
        net = seeded(KeepsInput)
        optimiser, kept = torch.optim.SGD(net.parameters(), 0.1), []

        def train(net: Any = net, optimiser: Any = optimiser, kept: Any = kept) -> None:
            for x, y in BATCHES:
                optimiser.zero_grad()
                out = net(x)
                CE(out["logits"], y).backward()
                optimiser.step()
                kept.append(out["inputs"].detach())

        train() if hook is None else hook(train)()
        assert all(torch.equal(a, x) for a, (x, _) in zip(kept, BATCHES, strict=True))
        found.append(parameters_to_vector(net.parameters()).detach())
    assert torch.allclose(*found, atol=1e-8)


class HandsBack(Base):
    def __init__(self) -> None:
        super().__init__()
        self.prototypes = nn.Parameter(torch.randn(4, 4))

    def forward(self, x: Tensor, mask: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.net(x) * mask[:, None] @ self.prototypes
        return {"logits": logits, "loss": CE(logits, labels), "labels": labels, "mask": mask, "heads": self.prototypes}


MASK = torch.ones(6, dtype=torch.bool)
BACK: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "unread": lambda net, x: net(x, MASK, Y)["loss"],
    "labels": lambda net, x: (out := net(x, MASK, Y)) and CE(out["logits"], out["labels"]),
    "mask": lambda net, x: (out := net(x, MASK, Y)) and (out["logits"] * out["mask"][:, None]).square().mean(),
    "a weight": lambda net, x: (out := net(x, MASK, Y)) and CE(out["logits"] @ out["heads"], Y),
}


@pytest.mark.parametrize("options", WAYS)
@pytest.mark.parametrize("name", BACK)
def test_what_a_module_hands_back_unchanged_is_no_result(name: str, options: dict) -> None:
    if options.get("penalty"):
        CurvatureHook(h=H, **options)(lambda: BACK[name](seeded(HandsBack), X.clone()).backward())()
        return
    net = seeded(HandsBack)
    hook = CurvatureHook(h=H)
    assert gap(net, lambda x: BACK[name](net, x), X.clone(), hook=hook) < 1e-12
    with hook:  # the same labels again, at a later step
        BACK[name](net, X.clone()).backward()


# --- what a call advances ------------------------------------------------------------------------------------------


class Queue(Base):
    """MoCo's, NNCLR's: keys are enqueued after they were compared with."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("queue", F.normalize(torch.randn(12, 4), dim=1))
        self.ptr = 0

    def forward(self, x: Tensor) -> Tensor:
        q = F.normalize(self.net(x), dim=1)
        logits = q @ self.queue.clone().T / 0.2
        with torch.no_grad():
            self.queue[self.ptr : self.ptr + 6] = q
        self.ptr = (self.ptr + 6) % 12
        return logits


class Centre(Base):
    """DINO's: another tensor takes the buffer's place."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        out = self.net(x)
        answer = out - self.centre
        self.centre = 0.5 * self.centre + 0.5 * out.detach().mean(0)
        return answer


class Codes(Base):
    """Vector quantisation's: advanced through ``.data``, which leaves version counters alone."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("codes", torch.randn(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        out = self.net(x)
        answer = out @ self.codes.clone().T
        self.codes.data.mul_(0.5).add_(out.detach().mean(0))
        return answer


class Observations(Base):
    """A running mean of inputs, without no_grad: x needs no gradient in the loop."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(16))

    def forward(self, x: Tensor) -> Tensor:
        self.mean = 0.9 * self.mean + 0.1 * x.mean(0)
        return self.net(x - self.mean.detach())


def spectral() -> nn.Module:
    norm = parametrizations.spectral_norm
    return nn.Sequential(norm(nn.Linear(16, 12)), nn.Tanh(), norm(nn.Linear(12, 4)))


ADVANCED = {"queue": Queue, "centre": Centre, "codes": Codes, "observations": Observations, "spectral norm": spectral}


def from_state(net: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return the loss as a function of x: every evaluation begins where this one began."""
    buffers = {name: buffer.clone() for name, buffer in net.named_buffers()}
    pointer = getattr(net, "ptr", None)

    def loss(x: Tensor, y: Tensor) -> Tensor:
        for name, buffer in buffers.items():
            owner, _, own = name.rpartition(".")
            net.get_submodule(owner)._buffers[own] = buffer.clone()
        if pointer is not None:
            net.ptr = pointer
        return CE(net(x), y)

    return loss


def twin_step(net: nn.Module, x: Tensor, y: Tensor, weight: float) -> list[Tensor]:
    leaf, f, weights = x.clone().requires_grad_(), from_state(net), list(net.parameters())
    loss = f(leaf, y)
    state = {k: v.clone() for k, v in net.named_buffers()}, getattr(net, "ptr", None)
    (g,) = torch.autograd.grad(loss, leaf, retain_graph=True)
    moved = x + H * g / g.norm(dim=1, keepdim=True)
    found = filled(torch.autograd.grad(loss + weight * (f(moved, y) - loss).abs(), weights), weights)
    with torch.no_grad():  # as the loop's own call left it
        for name, buffer in net.named_buffers():
            buffer.copy_(state[0][name])
        if state[1] is not None:
            net.ptr = state[1]
    return found


@pytest.mark.parametrize("explicit", [False, True])
@pytest.mark.parametrize("weight", [1.0, 2.0])
@pytest.mark.parametrize("name", ADVANCED)
def test_replays_start_from_the_state_before_the_call(name: str, weight: float, explicit: bool) -> None:
    ours, twin = seeded(ADVANCED[name]), seeded(ADVANCED[name])
    hook = CurvatureHook(h=H, weight=weight)
    for x, y in BATCHES:
        expected = twin_step(twin, x, y, weight)
        ours.zero_grad()
        if explicit:
            hook.loss(ours, x.clone(), lambda out, y=y: CE(out, y)).backward()
        else:
            with hook:
                CE(ours(x.clone()), y).backward()
        assert distance([p.grad for p in ours.parameters()], expected) < 1e-10
        for (known, a), b in zip(ours.named_buffers(), twin.buffers(), strict=True):
            assert torch.allclose(a, b, atol=1e-12), known
        for net, gradients in ((ours, [p.grad for p in ours.parameters()]), (twin, expected)):
            with torch.no_grad():
                for p, g in zip(net.parameters(), gradients, strict=True):
                    p -= 0.1 * g
    ours.load_state_dict(copy.deepcopy(ours.state_dict()))
    assert not any(buffer.requires_grad for buffer in ours.buffers())


class FirstBatch(Base):
    """Takes its statistics from the first batch; the buffer holds nothing before."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", None)

    def forward(self, x: Tensor) -> Tensor:
        if self.scale is None:
            self.scale = 1 + x.square().mean(0)
        return self.net(x / self.scale.detach())


class Charge(Base):
    """A spiking layer's: reset by the loop before the steps of one batch."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("charge", None)

    def forward(self, x: Tensor) -> Tensor:
        out = self.net(x)
        self.charge = out if self.charge is None else 0.5 * self.charge + out
        return self.charge


@pytest.mark.parametrize("weight", [1.0, 2.0])
@pytest.mark.parametrize(("kind", "steps"), [(FirstBatch, 1), (Charge, 1), (Charge, 2)])
def test_an_empty_buffer_is_empty_again_in_replays(kind: Callable[[], nn.Module], steps: int, weight: float) -> None:
    net = seeded(kind)

    def loss(x: Tensor) -> Tensor:
        for name in ("scale", "charge"):
            if name in net._buffers:
                net._buffers[name] = None
        return CE(sum(net(x) for _ in range(steps)), Y)

    assert gap(net, loss, X.clone(), hook=CurvatureHook(h=H, weight=weight)) < 1e-12


class Counts(Base):
    def __init__(self) -> None:
        super().__init__()
        self.kinds = [
            collections.defaultdict(int), collections.OrderedDict(n=0), collections.Counter(n=0), {"n": 0},
        ]  # fmt: skip
        self.a, self.b, self.c, self.d = self.kinds
        self.nested, self.running = {"log": []}, torch.zeros(16, dtype=torch.float64)
        self.hidden = [nn.Sequential(nn.BatchNorm1d(16), nn.Linear(16, 4)).double()]

    def forward(self, x: Tensor) -> Tensor:
        for kind in (self.a, self.b, self.c, self.d):
            kind["n"] += 1
        self.nested["log"].append(1)
        with torch.no_grad():
            self.running.lerp_(x.mean(0), 0.1)
            self.hidden[0](x)
        return self.net(x)


def after_a_call(plain: Any, net: Any, options: dict, *, explicit: bool) -> tuple[Any, Any]:
    """Return the first after a call, the second after a step under the hook, in its explicit form or around a loop."""
    hook = CurvatureHook(h=H, **options)
    plain(X)
    if explicit:
        hook.loss(net, X.clone(), lambda out: CE(out, Y)).backward()
    else:
        with hook:
            CE(net(X.clone()), Y).backward()
    return plain, net


@pytest.mark.parametrize("explicit", [False, True])
@pytest.mark.parametrize("options", [*WAYS, {"norm_stats": "running"}])
def test_every_kind_of_state_moves_once_a_step(options: dict, explicit: bool) -> None:
    plain, net = after_a_call(seeded(Counts), seeded(Counts), options, explicit=explicit)
    assert [kind["n"] for kind in (net.a, net.b, net.c, net.d)] == [1, 1, 1, 1]
    assert net.nested == {"log": [1]}
    assert torch.equal(net.running, plain.running)
    assert torch.equal(net.hidden[0][0].running_mean, plain.hidden[0][0].running_mean)
    assert int(net.hidden[0][0].num_batches_tracked) == 1


class Holds(Base):
    """Statistics in a dict, in a list, and in a list within a dict."""

    def __init__(self) -> None:
        super().__init__()
        zeros = [torch.zeros(4, dtype=torch.float64) for _ in range(3)]
        self.by_name, self.rows, self.nested = {"mean": zeros[0]}, [zeros[1]], {"rows": [zeros[2]]}

    def forward(self, x: Tensor) -> Tensor:
        out = self.net(x)
        with torch.no_grad():
            for held in (self.by_name["mean"], self.rows[0], self.nested["rows"][0]):
                held.lerp_(out.mean(0), 0.1)
        return out


@pytest.mark.parametrize("explicit", [False, True])
@pytest.mark.parametrize("options", WAYS)
def test_tensors_in_containers_of_a_module_are_written_once_a_step(options: dict, explicit: bool) -> None:
    plain, net = after_a_call(seeded(Holds), seeded(Holds), options, explicit=explicit)
    for held in (net.by_name["mean"], net.rows[0], net.nested["rows"][0]):
        assert torch.equal(held, plain.rows[0])


@pytest.mark.parametrize("options", WAYS)
def test_statistics_that_the_loop_passes_to_batch_norm_move_once(options: dict) -> None:
    found = []
    for hook in (None, CurvatureHook(h=H, **options)):
        net = seeded(mlp)
        mean, var = torch.zeros(12, dtype=torch.float64), torch.ones(12, dtype=torch.float64)

        def step(net: Any = net, mean: Tensor = mean, var: Tensor = var) -> None:
            CE(net[2](F.batch_norm(net[0](X.clone()), mean, var, training=True)), Y).backward()

        step() if hook is None else hook(step)()
        found.append(mean)
    assert torch.equal(*found)


# --- what changes between forward and backward ---------------------------------------------------------------------


def test_a_memory_written_before_backward_is_refused_at_any_step() -> None:
    net, memory = seeded(mlp), torch.zeros(6, 4, dtype=torch.float64)

    def step(x: Tensor, *, early: bool) -> None:
        features = net(x)
        loss = (features @ torch.cat([features, memory]).T).square().mean()
        if early:
            memory.copy_(features.detach())
        loss.backward()
        memory.copy_(features.detach())

    with CurvatureHook(h=H):
        step(X.clone(), early=False)
        with pytest.raises(HookError, match="written between it and backward") as error:
            step(X.clone(), early=True)
    assert "write it after backward" in str(error.value)


class Rate(Base):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("rate", torch.tensor(0.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) * (1 + self.rate)


def test_a_buffer_set_before_backward_does_not_change_the_term() -> None:
    net = seeded(Rate)
    expected = gap(net, lambda x: CE(net(x), Y), X.clone())
    with CurvatureHook(h=H):
        net.zero_grad()
        loss = CE(net(X.clone()), Y)
        net.rate.fill_(0.5)
        loss.backward()
    ours = [p.grad.clone() for p in net.parameters()]
    net.rate.fill_(0.0)
    net.zero_grad()
    with CurvatureHook(h=H):
        CE(net(X.clone()), Y).backward()
    assert expected < 1e-12
    assert distance(ours, [p.grad for p in net.parameters()]) < 1e-12


def _by_data(net: nn.Linear) -> Tensor:
    kept = net.weight.data
    net.weight.data = (kept * 4).round() / 4
    out = net(X.clone())
    net.weight.data = kept
    return out


def _by_vector(net: nn.Linear) -> Tensor:
    kept = parameters_to_vector(net.parameters()).detach()
    vector_to_parameters((kept * 4).round() / 4, net.parameters())
    out = net(X.clone())
    vector_to_parameters(kept, net.parameters())
    return out


@pytest.mark.parametrize("quantised", [_by_data, _by_vector])
def test_weights_put_back_before_backward_are_refused_at_any_step(quantised: Callable[[Any], Tensor]) -> None:
    net = seeded(lambda: nn.Linear(16, 4))
    with CurvatureHook(h=H):
        CE(net(X.clone()), Y).backward()
        with pytest.raises(HookError, match="were written after its forward pass"):
            CE(quantised(net), Y).backward()


class Momentum(Base):
    """MoCo v3's: a second encoder follows the first inside forward."""

    def __init__(self) -> None:
        super().__init__()
        self.slow = mlp().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            for p, q in zip(self.slow.parameters(), self.net.parameters(), strict=True):
                p.data = 0.9 * p.data + 0.1 * q.data
            target = self.slow(x)
        return (self.net(x) - target).square().mean()


class ActNorm(Base):
    """Glow's: the first batch sets the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.bias, self.ready = nn.Parameter(torch.zeros(16)), False

    def forward(self, x: Tensor) -> Tensor:
        if not self.ready:
            self.bias.data.copy_(-x.detach().mean(0))
            self.ready = True
        return CE(self.net(x + self.bias), Y)


@pytest.mark.parametrize("kind", [Momentum, ActNorm])
@pytest.mark.parametrize("options", WAYS)
def test_a_model_that_writes_its_weights_when_called_is_refused(kind: Callable[[], nn.Module], options: dict) -> None:
    net = seeded(kind)
    with pytest.raises(HookError, match="writes its own weights when it is called"), CurvatureHook(h=H, **options):
        net(X.clone()).backward()


def test_weights_set_by_a_batch_before_training_are_fine() -> None:
    net = seeded(ActNorm)
    net(X)
    assert gap(net, lambda x: net(x), X.clone()) < 1e-12


# --- x -------------------------------------------------------------------------------------------------------------


def test_a_tensor_watched_twice_is_one_input() -> None:
    net = seeded(lambda: nn.ModuleList([mlp(), mlp()]))
    x = X.clone()
    for _ in range(2):
        hook = CurvatureHook(h=H)
        net.zero_grad()
        with hook:
            CE(net[0](hook.watch(x)) * net[1](hook.watch(x)), Y).backward()
        ours = [p.grad.clone() for p in net.parameters()]
        assert gap(net, lambda x: CE(net[0](x) * net[1](x), Y), X.clone(), watch=True) < 1e-12
        assert distance(ours, [p.grad for p in net.parameters()]) < 1e-12


@pytest.mark.parametrize("watch", [False, True])
def test_new_numbers_under_an_old_tensor_are_seen(watch: bool) -> None:
    net, x, kept = seeded(mlp), torch.zeros(6, 16, dtype=torch.float64), []
    with CurvatureHook(h=H) as hook:
        for batch, y in BATCHES:
            x.data = batch.clone()
            given = hook.watch(x) if watch else x
            out = net(given)
            kept += [given, net(given).mean()]
            assert torch.equal(out, net.forward(batch))
            CE(out, y).backward()


def test_a_flag_left_on_an_adversarial_batch_is_refused_beside_a_clean_loss() -> None:
    net = seeded(mlp)

    def step(*, flag: bool) -> None:
        adv = X.clone().requires_grad_()
        (g,) = torch.autograd.grad(CE(net(adv), Y), adv)
        adv = (adv.detach() + 0.1 * g.sign()).requires_grad_(flag)
        penalty = 1e-3 * sum(p.square().sum() for p in net.parameters())
        (0.5 * CE(net(X.clone()), Y) + 0.5 * CE(net(adv), Y) + penalty).backward()

    with CurvatureHook(h=H):
        step(flag=False)
        with pytest.raises(HookError, match="would stay unregularised") as error:
            step(flag=True)
    assert "x_adv.detach()" in str(error.value)


def test_rows_put_together_again_are_a_second_route() -> None:
    net = seeded(lambda: nn.ModuleList([mlp(), nn.Linear(16, 4)]))
    with pytest.raises(HookError, match="second route"):
        gap(net, lambda x: CE(net[0](x) + net[1](torch.stack([row * 1.5 for row in x])), Y), X.clone())


# --- the loop's own ways -------------------------------------------------------------------------------------------


def _layer_by_layer(net: nn.Module, x: Tensor) -> Tensor:
    for layer in net:
        x = layer(x)
    return CE(x, Y)


@pytest.mark.parametrize("kind", [nn.ReLU, nn.LeakyReLU, nn.ELU, nn.Hardtanh])
def test_activations_in_place(kind: Callable[..., nn.Module]) -> None:
    net = seeded(lambda: nn.Sequential(nn.Linear(16, 12), kind(inplace=True), nn.Linear(12, 4)))
    assert gap(net, lambda x: _layer_by_layer(net, x), X.clone()) < 1e-12
    assert gap(net, lambda x: CE(net[2](F.relu(net[0](x), inplace=True)), Y), X.clone()) < 1e-12


def test_backward_with_gradients_turned_off() -> None:
    net = seeded(mlp)
    assert gap(net, lambda x: CE(net(x), Y), X.clone()) < 1e-12
    expected = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    with CurvatureHook(h=H):
        loss = CE(net(X.clone()), Y)
        with torch.no_grad():
            loss.backward()
    assert distance([p.grad for p in net.parameters()], expected) < 1e-12


def test_gradients_of_features_and_weights_in_one_call_are_refused() -> None:
    net = seeded(mlp)
    with CurvatureHook(h=H):
        CE(net(X.clone()), Y).backward()
        features = net[0](X.clone())
        loss = CE(net[2](features), Y)
        with pytest.raises(HookError, match="of weights and of features"):
            torch.autograd.grad(loss, [features, *net.parameters()])


class Means(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.full((16,), 0.1), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return x - self.mean


def test_a_normalisation_of_frozen_vectors_makes_no_features() -> None:
    net = seeded(lambda: nn.ModuleList([Means(), mlp()]))
    data = X.clone()

    def loss(x: Tensor) -> Tensor:
        return CE(net[1](x), Y)

    assert gap(net[1], loss, data - net[0].mean.detach()) < 1e-12
    expected = [p.grad.clone() for p in net[1].parameters()]
    net.zero_grad()
    with CurvatureHook(h=H):
        CE(net[1](net[0](data)), Y).backward()
    assert distance([p.grad for p in net[1].parameters()], expected) < 1e-12


@pytest.mark.parametrize("weight", [1.0, 2.0])
def test_a_gradient_hook_on_a_weight_of_the_loop_sees_the_whole_gradient(weight: float) -> None:
    net, factor = seeded(mlp), nn.Parameter(torch.tensor(1.0, dtype=torch.float64))
    seen: list[float] = []
    factor.register_hook(lambda g: seen.append(float(g)))
    with CurvatureHook(h=H, weight=weight):
        CE(net(X.clone()) * factor, Y).backward()
    assert seen == [pytest.approx(float(factor.grad))]


STREAM = torch.Generator().manual_seed(0)


class Noisy(Base):
    """Draws from a generator that no module holds, so that a replay draws other numbers."""

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x + 0.1 * torch.randn(x.shape, generator=STREAM, dtype=x.dtype))


@pytest.mark.parametrize("weight", [1.0, 2.0, 0.5])
def test_a_refusal_leaves_no_gradients(weight: float) -> None:
    net = seeded(Noisy)
    with CurvatureHook(h=H, weight=weight), pytest.raises(HookError, match="replayed loss is not the loop's"):
        CE(net(X.clone()), Y).backward()
    assert all(p.grad is None for p in net.parameters())


def test_a_dropout_of_the_loop_knows_no_eval_mode() -> None:
    net, dropout = seeded(mlp), nn.Dropout(0.5)
    with (
        pytest.raises(HookError, match="a dropout of the loop knows no mode"),
        CurvatureHook(h=H, norm_stats="running"),
    ):
        CE(net[2](dropout(net[0](X.clone()))), Y).backward()


class Reads(Base):
    def forward(self, x: Tensor) -> Tensor:
        self.peak = float(x.cpu().numpy().max())
        return self.net(x)


class WritesOut(Base):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("twice", torch.zeros(6, 16))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(torch.mul(x, 2, out=self.twice).clone())


@pytest.mark.parametrize("kind", [Reads, WritesOut])
def test_a_model_that_needs_x_without_a_gradient_is_told_what_to_write(kind: Callable[[], nn.Module]) -> None:
    with pytest.raises(HookError, match="only without gradients") as error, CurvatureHook(h=H):
        seeded(kind)(X.clone())
    assert "x.detach()" in str(error.value)


# --- what a review found -------------------------------------------------------------------------------------------


class Learned(Base):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(4, dtype=torch.float64, requires_grad=True))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) * self.scale


@pytest.mark.parametrize("explicit", [False, True])
@pytest.mark.parametrize("weight", [1.0, 2.0, 0.5])
def test_a_buffer_that_learns_gets_its_gradient(weight: float, explicit: bool) -> None:
    net, hook = seeded(Learned), CurvatureHook(h=1e-9, weight=weight)
    (expected,) = torch.autograd.grad(CE(net(X), Y), net.scale)
    if explicit:
        hook.loss(net, X.clone(), lambda out: CE(out, Y)).backward()
    else:
        with hook:
            CE(net(X.clone()), Y).backward()
    assert torch.allclose(net.scale.grad, expected, atol=1e-6)


def test_the_explicit_form_of_a_function_starts_from_the_state_before_the_call() -> None:
    found = []
    for wrapped in (False, True):
        net, hook = seeded(Centre), CurvatureHook(h=H)
        for x, y in BATCHES:
            call = (lambda x, net=net: net(x)) if wrapped else net
            hook.loss(call, x.clone(), lambda out, y=y: CE(out, y)).backward()
        found.append(torch.cat([p.grad.flatten() for p in net.parameters()]))
    assert torch.equal(*found)


class Normal(Base):
    """CosFace's: the weights are put on the sphere at every call."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 16))

    def forward(self, x: Tensor) -> Tensor:
        self.weight.data = F.normalize(self.weight.data, dim=1)
        return F.linear(F.normalize(x), self.weight)


def test_weights_that_are_normalised_at_every_call_are_fine() -> None:
    net = seeded(Normal).float()
    with CurvatureHook(h=H):
        for x, y in BATCHES:
            CE(net(x.float()), y).backward()


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.uint16, torch.int8, torch.bool, torch.complex64])
def test_frozen_weights_of_any_type(dtype: torch.dtype) -> None:
    net = seeded(mlp)
    net.register_parameter("scale", nn.Parameter(torch.zeros(4).to(dtype), requires_grad=False))
    with CurvatureHook(h=H):
        CE(net(X.clone()), Y).backward()
    assert all(p.grad is not None for p in net.parameters() if p.requires_grad)


def test_features_and_weights_are_fine_in_a_step_that_is_not_regularised() -> None:
    net = seeded(mlp)
    optimiser = torch.optim.SGD(net.parameters(), 0.1)
    with CurvatureHook(h=H, every=2):
        CE(net[2](net[0](X.clone())), Y).backward()
        optimiser.step()
        features = net[0](X.clone())
        assert len(torch.autograd.grad(CE(net[2](features), Y), [features, *net[2].parameters()])) == 3


def test_a_penalty_of_an_input_that_was_attacked_before_passes_when_paused() -> None:
    net, xi = seeded(mlp), X.clone().requires_grad_()
    with CurvatureHook(h=H) as hook:
        torch.autograd.grad(CE(net(xi), Y), xi)
        with hook.paused():
            (g,) = torch.autograd.grad(CE(net(xi), Y), xi, create_graph=True)
            penalty = g.square().sum()
        (CE(net(X.clone()), Y) + penalty).backward()
