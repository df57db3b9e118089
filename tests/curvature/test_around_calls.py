"""What loops do around a model call and around backward: noise in gradients, hooks for one call, containers to fill."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import register_pytree_node

from guard_plugins.curvature import CurvatureHook
from guard_plugins.errors import HookError
from tests.curvature.worlds import Twin, as_written

GENERATOR = torch.Generator().manual_seed(5)
BATCHES = [
    (torch.randn(6, 16, generator=GENERATOR, dtype=torch.float64), torch.randint(0, 4, (6,), generator=GENERATOR))
    for _ in range(4)
]
CE = F.cross_entropy
H = 0.5
Loop = Callable[[Any, Any], None]


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 4))


def trained(
    loop: Loop, build: Callable[[], nn.Module], loss_at: Any = None, hook: CurvatureHook | None = None
) -> Tensor:
    torch.manual_seed(1)
    np.random.seed(1)
    net = build().double()
    if hook is None:
        loop(net, loss_at)
    else:
        hook(loop)(net, as_written)
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def compare(loop: Loop, build: Callable[[], nn.Module] = mlp, *, weight: float = 1.0) -> None:
    """Assert that the weights trained under the hook are those of the twin, and not those of a plain loop."""
    ours = trained(loop, build, hook=CurvatureHook(h=H, weight=weight))
    assert torch.allclose(ours, trained(loop, build, Twin(h=H, weight=weight)), atol=1e-12)
    assert not torch.allclose(ours, trained(loop, build, as_written), atol=1e-4)


def steps(loss: Callable[[nn.Module, Tensor, Tensor], Tensor]) -> Loop:
    def loop(net: nn.Module, loss_at: Any) -> None:
        optimiser = torch.optim.SGD(net.parameters(), 0.1)
        for x, y in BATCHES:
            optimiser.zero_grad()
            loss_at(lambda x, y=y: loss(net, x, y), x).backward()
            optimiser.step()

    return loop


def plain(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return CE(net(x), y)


# --- gradients that draw -------------------------------------------------------------------------------------------


def by_torch(gradient: Tensor) -> Tensor:
    return gradient + 0.1 * torch.randn_like(gradient)


def by_numpy(gradient: Tensor) -> Tensor:
    return gradient + 0.1 * torch.from_numpy(np.random.randn(*gradient.shape))


@pytest.mark.parametrize("weight", [1.0, 2.0])
@pytest.mark.parametrize("noise", [by_torch, by_numpy])
def test_noise_that_a_hook_adds_to_gradients_is_new_at_every_step(
    noise: Callable[[Tensor], Tensor], weight: float
) -> None:
    def loop(net: nn.Module, loss_at: Any) -> None:
        for p in net.parameters():
            p.register_hook(noise)
        steps(plain)(net, loss_at)

    compare(loop, weight=weight)


class Shaken(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 0.5

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g * torch.rand(len(g), 1, dtype=g.dtype)


class Shakes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = mlp()

    def forward(self, x: Tensor) -> Any:
        return self.net[2](Shaken.apply(self.net[1](self.net[0](x))))


@pytest.mark.parametrize("weight", [1.0, 2.0])
def test_what_backward_draws_moves_the_stream_as_in_the_loop(weight: float) -> None:
    ends = []
    for hook in (None, CurvatureHook(h=H, weight=weight)):
        trained(steps(plain), Shakes, as_written, hook)
        ends.append(torch.get_rng_state())
    assert torch.equal(*ends)


# --- hooks of one call ---------------------------------------------------------------------------------------------


def mixing(net: Any, x: Tensor) -> Tensor:
    """Manifold mixup by a hook that is there for one call."""
    handle = net[1].register_forward_hook(lambda module, args, out: 0.6 * out + 0.4 * out.flip(0))
    out = net(x)
    handle.remove()
    return out


def mixing_before(net: Any, x: Tensor) -> Tensor:
    handle = net[2].register_forward_pre_hook(lambda module, args, kwargs: ((args[0] * 2,), kwargs), with_kwargs=True)
    out = net(x)
    handle.remove()
    return out


def once(net: Any, x: Tensor) -> Tensor:
    """A hook that removes itself."""

    def hook(module: nn.Module, args: Any, out: Tensor) -> Tensor:
        handle.remove()
        return out * 2

    handle = net[1].register_forward_hook(hook)
    return net(x)


def turning(net: Any, x: Tensor) -> Tensor:
    handle = net[1].register_full_backward_hook(lambda module, inputs, outputs: (inputs[0] * 2,))
    out = net(x)
    handle.remove()
    return out


@pytest.mark.parametrize("weight", [1.0, 2.0])
@pytest.mark.parametrize("call", [mixing, mixing_before, once, turning])
def test_a_call_is_made_again_with_the_hooks_it_had(call: Callable[[Any, Tensor], Tensor], weight: float) -> None:
    def loop(net: Any, loss_at: Any) -> None:
        optimiser = torch.optim.SGD(net.parameters(), 0.1)
        for i, (x, y) in enumerate(BATCHES):
            optimiser.zero_grad()
            forward = call if i % 2 else lambda net, x: net(x)  # not at the first step, which is checked
            loss_at(lambda x, y=y, forward=forward: CE(forward(net, x), y), x).backward()
            optimiser.step()
            assert not any(part._forward_hooks or part._forward_pre_hooks or part._backward_hooks for part in net)

    compare(loop, weight=weight)


def unhooked(net: Any, x: Tensor) -> Tensor:
    return net(x)


@pytest.mark.parametrize(
    "calls", [(mixing, unhooked), (unhooked, mixing), (mixing, mixing_before), (unhooked, mixing, unhooked)]
)
def test_calls_of_one_loss_have_hooks_of_their_own(calls: Sequence[Callable[[Any, Tensor], Tensor]]) -> None:
    def loop(net: Any, loss_at: Any) -> None:
        optimiser = torch.optim.SGD(net.parameters(), 0.1)
        for i, (x, y) in enumerate(BATCHES):
            optimiser.zero_grad()
            made = calls if i else [unhooked] * len(calls)  # not at the first step, which is checked
            loss_at(lambda x, y=y, made=made: sum(CE(call(net, x), y) for call in made), x).backward()
            optimiser.step()

    compare(loop)


def test_a_hook_registered_after_the_call_has_no_part_in_it() -> None:
    def loop(net: Any, loss_at: Any) -> None:
        optimiser = torch.optim.SGD(net.parameters(), 0.1)
        for x, y in BATCHES:
            optimiser.zero_grad()
            loss = loss_at(lambda x, y=y: CE(net(x), y), x)
            handle = net[1].register_forward_hook(lambda module, args, out: out * 2)
            loss.backward()
            assert handle.id in net[1]._forward_hooks
            handle.remove()
            optimiser.step()

    compare(loop)


@pytest.mark.parametrize("call", [mixing, once])
def test_the_explicit_form_leaves_the_hooks_as_one_call_does(call: Callable[[Any, Tensor], Tensor]) -> None:
    net = mlp().double()
    x, y = BATCHES[0]
    hook = CurvatureHook(h=H)
    hook.loss(lambda x: call(net, x), x, lambda out: CE(out, y)).backward()
    assert not any(part._forward_hooks for part in net)


# --- containers that a model fills ---------------------------------------------------------------------------------


class Parts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(16, 12), nn.Linear(12, 4)


class Appends(Parts):
    def forward(self, x: Tensor, features: list[Tensor]) -> Tensor:
        features.append(self.body(x).tanh())
        return self.head(features[-1])


class Enters(Parts):
    def forward(self, batch: dict[str, Any]) -> None:
        batch["count"] = batch.get("count", 0) + 1
        batch["logits"] = self.head(self.body(batch["x"]).tanh())


@dataclass
class Batch:
    x: Tensor
    logits: Tensor | None = None
    parts: dict[str, list[Tensor]] = field(default_factory=lambda: {"features": []})


class Sets(Parts):
    def forward(self, batch: Batch) -> None:
        batch.parts["features"].append(self.body(batch.x).tanh())
        batch.logits = self.head(batch.parts["features"][0])


def appended(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    features: list[Tensor] = []
    return CE(net(x, features), y) + sum(f.square().mean() for f in features)


def entered(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    batch: dict[str, Any] = {"x": x}
    net(batch)
    assert batch["x"] is x
    assert batch["count"] == 1
    return CE(batch["logits"], y)


def set_in(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    batch = Batch(x)
    net(batch)
    assert batch.x is x
    assert len(batch.parts["features"]) == 1
    return CE(batch.logits, y) + batch.parts["features"][0].abs().mean()


@pytest.mark.parametrize("weight", [1.0, 2.0])
@pytest.mark.parametrize(("build", "loss"), [(Appends, appended), (Enters, entered), (Sets, set_in)])
def test_what_a_model_writes_into_a_container_it_is_given_is_a_result(
    build: Callable[[], nn.Module], loss: Callable[[nn.Module, Tensor, Tensor], Tensor], weight: float
) -> None:
    compare(steps(loss), build, weight=weight)


class Caches(Parts):
    def forward(self, x: Tensor, cache: dict[str, Tensor]) -> Tensor:
        before = cache["features"].detach() if "features" in cache else 0
        cache["features"] = self.body(x).tanh()
        return self.head(cache["features"] + 0.1 * before)


@pytest.mark.parametrize("weight", [1.0, 2.0])
def test_what_an_earlier_step_left_in_a_container_is_a_constant(weight: float) -> None:
    def loop(net: Any, loss_at: Any) -> None:
        optimiser, cache = torch.optim.SGD(net.parameters(), 0.1), {}
        for x, y in BATCHES:
            before, kept = dict(cache), []

            def loss(x: Tensor, y: Tensor = y, before: Any = before, kept: Any = kept) -> Tensor:
                if isinstance(loss_at, Twin):
                    cache.clear()
                    cache.update(before)
                out = net(x, cache)
                kept.append(cache["features"])
                return CE(out, y)

            optimiser.zero_grad()
            loss_at(loss, x).backward()
            cache["features"] = kept[0]
            optimiser.step()

    compare(loop, Caches, weight=weight)


def test_such_a_model_is_followed_in_steps_without_a_term() -> None:
    def loop(net: nn.Module, loss_at: Any) -> None:
        optimiser = torch.optim.SGD(net.parameters(), 0.1)
        for i, (x, y) in enumerate(BATCHES):
            optimiser.zero_grad()
            now = as_written if i % 2 else loss_at
            now(lambda x, y=y: entered(net, x, y), x).backward()
            optimiser.step()

    ours = trained(loop, Enters, hook=CurvatureHook(h=H, every=2))
    assert torch.allclose(ours, trained(loop, Enters, Twin(h=H)), atol=1e-12)


# --- weights of the loop's own -------------------------------------------------------------------------------------


class Scaled(nn.Module):
    """Holds a weight that no module owns where the loop runs, so that it is compared."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.scale = mlp(), nn.Parameter(torch.ones(4))


@pytest.mark.parametrize("weight", [1.0, 2.0, 0.5])
def test_a_tensor_of_the_loop_whose_gradient_is_clamped(weight: float) -> None:
    def loop(held: Any, loss_at: Any) -> None:
        scale = held.scale.detach().requires_grad_()
        scale.register_hook(lambda g: g.clamp(-0.01, 0.01))
        optimiser = torch.optim.SGD([*held.net.parameters(), scale], 0.1)
        for x, y in BATCHES:
            optimiser.zero_grad()
            loss_at(lambda x, y=y: CE(held.net(x) * scale, y), x).backward()
            optimiser.step()

    compare(loop, Scaled, weight=weight)


@pytest.mark.parametrize("weight", [1.0, 2.0])
def test_autograd_grad_of_a_weight_of_the_loop(weight: float) -> None:
    def loop(held: Any, loss_at: Any) -> None:
        for x, y in BATCHES:
            loss = loss_at(lambda x, y=y: CE(held.net(x) * held.scale, y), x)
            (own,) = torch.autograd.grad(loss, held.scale, retain_graph=True)
            others = torch.autograd.grad(loss, list(held.net.parameters()))
            with torch.no_grad():
                for p, g in zip([held.scale, *held.net.parameters()], [own, *others], strict=True):
                    p -= 0.1 * g

    compare(loop, Scaled, weight=weight)


def everywhere(net: Any, x: Tensor) -> Tensor:
    """A hook of all modules, for one call."""
    handle = nn.modules.module.register_module_forward_hook(
        lambda module, args, out: out * 0.5 if isinstance(module, nn.Tanh) else None
    )
    out = net(x)
    handle.remove()
    return out


def test_a_call_is_made_again_with_the_hooks_of_all_modules() -> None:
    def loop(net: Any, loss_at: Any) -> None:
        optimiser = torch.optim.SGD(net.parameters(), 0.1)
        for i, (x, y) in enumerate(BATCHES):
            optimiser.zero_grad()
            loss_at(lambda x, y=y, i=i: CE(everywhere(net, x) if i else net(x), y), x).backward()
            optimiser.step()
            assert not nn.modules.module._global_forward_hooks

    compare(loop)


def swapped(net: Any, x: Tensor) -> Tensor:
    own, net[1] = net[1], nn.ReLU()
    out = net(x)
    net[1] = own
    return out


def lengthened(net: Any, x: Tensor) -> Tensor:
    net.append(nn.Tanh())
    out = net(x)
    del net[-1]
    return out


def hooked_node(net: Any, x: Tensor) -> Tensor:
    out = net(x)
    out.grad_fn.register_prehook(lambda gradients: tuple(0.1 * g for g in gradients))
    return out


@pytest.mark.parametrize("weight", [1.0, 2.0])
@pytest.mark.parametrize(
    ("call", "words"),
    [(swapped, "not the loop's loss"), (lengthened, "not the loop's loss"), (hooked_node, "in a way")],
)
def test_what_replays_cannot_redo_is_refused_at_any_step(
    call: Callable[[Any, Tensor], Tensor], words: str, weight: float
) -> None:
    net = mlp().double()
    with CurvatureHook(h=H, weight=weight):
        CE(net(BATCHES[0][0]), BATCHES[0][1]).backward()
        with pytest.raises(HookError, match=words):
            CE(call(net, BATCHES[1][0]), BATCHES[1][1]).backward()


class Renews(nn.Module):
    """Makes a part of itself anew in every call."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.drop = mlp(), nn.Dropout(0.3)

    def forward(self, x: Tensor) -> Tensor:
        self.drop = nn.Dropout(0.3)
        return self.drop(self.net(x))


def test_a_model_that_makes_a_part_of_itself_anew_is_followed() -> None:
    compare(steps(plain), Renews)


# --- batches of other kinds, and what the loop draws ---------------------------------------------------------------


class Reads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = mlp()

    def forward(self, batch: Any) -> Tensor:
        return self.net(batch["x"] if isinstance(batch, UserDict) else batch.x)


@pytest.mark.parametrize("kind", [UserDict, SimpleNamespace])
def test_batches_in_namespaces_and_user_dicts_are_looked_into(kind: Callable[..., Any]) -> None:
    compare(steps(lambda net, x, y: CE(net(kind(x=x, y=y)), y)), Reads)


@pytest.mark.parametrize("kind", [UserDict, SimpleNamespace])
def test_such_batches_can_be_watched(kind: Callable[..., Any]) -> None:
    net = Reads().double()
    with CurvatureHook(h=H) as hook:
        batch = hook.watch(kind(x=BATCHES[0][0], y=BATCHES[0][1]))
        assert type(batch) is kind
        CE(net(batch), BATCHES[0][1]).backward()
    assert hook.summary().backwards == 1


def gamma(out: Tensor) -> Tensor:
    torch.rand(3)
    return torch._standard_gamma(F.softplus(out))


def singular(out: Tensor) -> Tensor:
    torch.rand(3)
    return torch.svd_lowrank(out, q=2, niter=0)[1]


@pytest.mark.parametrize("draw", [gamma, singular])
def test_functions_of_the_loop_that_draw_draw_the_same_again(draw: Callable[[Tensor], Tensor]) -> None:
    def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        out = net(x)
        return CE(out, y) + 0.1 * draw(out).mean()

    compare(steps(loss))


def test_a_learned_part_of_the_input_is_told_of_watch() -> None:
    net, prompt = mlp().double(), nn.Parameter(torch.zeros(16, dtype=torch.float64))
    optimiser = torch.optim.SGD([prompt, *net.parameters()], 0.1)

    def step() -> None:
        with CurvatureHook(h=H):
            plain(net, BATCHES[0][0] + prompt, BATCHES[0][1]).backward()
            optimiser.step()

    with pytest.raises(HookError, match=r"hook\.watch the data"):
        step()


class Holder:
    """A class that only PyTorch's pytree knows how to take apart."""

    def __init__(self, count: int) -> None:
        self.count = count


register_pytree_node(Holder, lambda held: ([held.count], None), lambda parts, context: Holder(parts[0]))


class Takes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = mlp()

    def forward(self, x: Tensor, *others: Any) -> Tensor:
        if len(others) == 1 and isinstance(others[0], torch.Size):
            assert others[0].numel() == 2
        return self.net(x[0] if isinstance(x, tuple) else x)


@pytest.mark.parametrize("other", [Holder(2), slice(0, 2), torch.Size([2]), np.ones(3), ([1], {"a": (2,)}), "a", None])
def test_arguments_that_are_rebuilt_but_not_filled(other: Any) -> None:
    compare(steps(lambda net, x, y: CE(net(x, other), y)), Takes)
    compare(steps(lambda net, x, y: CE(net((x, other)), y)), Takes)
