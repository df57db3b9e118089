"""What the hook cannot regularise it refuses at the first step, saying what happened, what was seen and what to do."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from guard_plugins.curvature import CurvatureHook
from guard_plugins.curvature.replay.selfcheck import PERIOD
from guard_plugins.errors import HookError
from tests.curvature.worlds import Twin, World, as_written, assert_same, small_net, world


class Doubled(torch.autograd.Function):
    """A custom function, which PyTorch shows to nobody."""

    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, g):
        return g * 2


def _train(w: World, loss_of: Callable[[Tensor, Tensor], Tensor], hook: CurvatureHook) -> None:
    """A loop that must not get past its first step."""
    start = copy.deepcopy(w.net.state_dict())
    steps = 0
    opt = w.optimizer()
    try:
        with hook:
            for x, y in w.data:
                opt.zero_grad()
                loss_of(w.net(x), y).backward()
                opt.step()
                steps += 1
    finally:
        assert steps == 0, "an optimiser step went through"
        assert all(torch.equal(p, start[k]) for k, p in w.net.named_parameters())


def _complains(error: pytest.ExceptionInfo, *words: str) -> None:
    text = str(error.value)
    assert "\n  seen: " in text
    assert "\n  do:   " in text
    for word in words:
        assert word in text, text


def custom_whole(out: Tensor, y: Tensor) -> Tensor:
    return Doubled.apply(F.cross_entropy(out, y))


def custom_part(out: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(out, y) + 0.1 * Doubled.apply(out).square().mean()


def custom_part_of_no_value(out: Tensor, y: Tensor) -> Tensor:
    """Its value is the same number in a replay; only its gradient tells."""
    aside = Doubled.apply(out).sum()
    return F.cross_entropy(out, y) + (aside - aside.detach())


def view_of_a_plain_tensor_written(out: Tensor, y: Tensor) -> Tensor:
    buffer = torch.zeros(2, len(y), 4)
    buffer[0].copy_(out)
    return F.cross_entropy(buffer.sum(0), y)


def tensor_with_a_graph_written(out: Tensor, y: Tensor) -> Tensor:
    buffer = torch.ones(len(y), 4, requires_grad=True) * 2
    buffer.copy_(out)
    return F.cross_entropy(out, y) + 0.01 * buffer.square().mean()


def view_written_without_gradients(out: Tensor, y: Tensor) -> Tensor:
    out = out * 1.0
    with torch.no_grad():
        out[:, 0].mul_(0.5)
    return F.cross_entropy(out, y)


@torch.jit.script
def scripted(out: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(out, y)


def impure_module() -> nn.Module:
    class Impure(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.calls = small_net(), itertools.count(1)

        def forward(self, x):
            return self.net(x) * next(self.calls)

    return Impure()


@pytest.mark.parametrize(
    ("loss_of", "words"),
    [
        (custom_whole, ["never saw", "optimiser step", "hook.loss(model, x, loss_fn)"]),
        (scripted, ["never saw", "1 model calls recorded, 0 backward calls"]),
        (custom_part, ["cannot follow", "custom autograd.Function"]),
        (custom_part_of_no_value, ["cannot follow", "custom autograd.Function"]),
        (view_of_a_plain_tensor_written, ["cannot be computed again", "written into a view of a plain tensor"]),
        (tensor_with_a_graph_written, ["cannot be computed again", "one with a graph of its own"]),
        (view_written_without_gradients, ["cannot be computed again", "through a view"]),
    ],
)
def test_losses_that_cannot_be_followed(loss_of: Callable, words: list[str]) -> None:
    for options in ({"weight": 1.0}, {"weight": 2.0}, {"penalty": "gradient"}):
        with pytest.raises(HookError) as error:
            _train(world(), loss_of, CurvatureHook(h=0.5, **options))
        _complains(error, *words)


def test_a_model_that_changes_from_call_to_call() -> None:
    with pytest.raises(HookError) as error:
        _train(world(build=impure_module), F.cross_entropy, CurvatureHook(h=0.5))
    _complains(error, "not the loop's loss", "keeps state between calls")


def test_a_model_whose_gradient_changes_from_call_to_call() -> None:
    class Impure(nn.Module):
        """Its value never changes, so that only the comparison of input gradients can tell."""

        def __init__(self) -> None:
            super().__init__()
            self.net, self.calls = small_net(), itertools.count(1)

        def forward(self, x):
            return self.net(x.detach() + (x - x.detach()) * next(self.calls))

    with pytest.raises(HookError) as error:
        _train(world(build=Impure), F.cross_entropy, CurvatureHook(h=0.5))
    _complains(error, "in a way the hook cannot follow", "input gradient of the replay differs")


def _count_steps_until_error(loss_of: Callable[[int, Tensor, Tensor], Tensor], model: nn.Module, steps: int) -> int:
    opt = torch.optim.SGD(model.parameters(), lr=0.01)
    x, y = world().data[0]
    done = 0

    def train() -> None:
        nonlocal done
        with CurvatureHook(h=0.5):
            for step in range(steps):
                opt.zero_grad()
                loss_of(step, model(x), y).backward()
                opt.step()
                done += 1

    with pytest.raises(HookError):
        train()
    return done


def test_the_self_check_comes_back() -> None:
    """A model that turns impure in mid-training is found out at the next periodic check."""

    class Late(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.calls = nn.Sequential(nn.Flatten(), nn.Linear(36, 4)), itertools.count(1)

        def forward(self, x):
            call = next(self.calls)
            return self.net(x) * (1 if call < 50 else 1 + call % 3)

    assert _count_steps_until_error(lambda _, out, y: F.cross_entropy(out, y), Late(), 2 * PERIOD) == PERIOD


def test_a_new_kind_of_loss_is_checked_at_once() -> None:
    def loss_of(step: int, out: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(out, y) if step < 5 else custom_part(out, y)

    assert _count_steps_until_error(loss_of, small_net(), 20) == 5


def test_sharded_wrappers() -> None:
    class FSDPModule(nn.Sequential):
        """A stand-in with the name PyTorch's class has."""

    net = FSDPModule(nn.Linear(4, 2))
    with pytest.raises(HookError) as error, CurvatureHook(h=0.5):
        net(torch.randn(2, 4))
    _complains(error, "wrapped in FSDPModule cannot be regularised", "DistributedDataParallel")


def test_activations_kept_by_a_forward_hook() -> None:
    w = world()
    kept = {}
    w.net[4].register_forward_hook(lambda m, a, out: kept.update(out=out))
    with pytest.raises(HookError) as error:
        _train(w, lambda out, y: F.cross_entropy(out, y) + kept["out"].square().mean(), CurvatureHook(h=0.5))
    _complains(error, "cannot follow", "forward hook")


def test_a_custom_function_inside_the_model_is_fine() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = small_net()

        def forward(self, x):
            return Doubled.apply(self.net(x))

    ours, twin = world(build=Net), world(build=Net)
    start = copy.deepcopy(ours.net.state_dict())
    for w, kind in ((ours, None), (twin, Twin(twin.net, h=0.5))):
        opt = w.optimizer()
        with CurvatureHook(h=0.5) if kind is None else nullcontext():
            for x, y in w.data:
                opt.zero_grad()
                (kind or as_written)(lambda x, y=y, w=w: F.cross_entropy(w.net(x), y), x).backward()
                opt.step()
    assert_same(ours.net, twin.net, start, tolerance=2e-6)


def test_integer_inputs() -> None:
    net = nn.Sequential(nn.Embedding(10, 8), nn.Flatten(), nn.Linear(24, 4))
    opt = torch.optim.SGD(net.parameters(), lr=0.1)
    x, y = torch.randint(0, 10, (8, 3)), torch.randint(0, 4, (8,))

    def step() -> None:
        with CurvatureHook(h=0.5):
            F.cross_entropy(net(x), y).backward()
            opt.step()

    with pytest.raises(HookError) as error:
        step()
    _complains(error, "Sequential: no floating-point tensor among its inputs")


def test_named_input_that_is_not_there() -> None:
    with pytest.raises(HookError) as error:
        _train(world(), F.cross_entropy, CurvatureHook(h=0.5, input="pixels"))
    _complains(error, "no floating-point tensor under input='pixels'")


def test_functional_call_with_foreign_weights() -> None:
    w = world()
    own = {k: p.detach().clone().requires_grad_() for k, p in w.net.named_parameters()}
    opt = torch.optim.SGD(own.values(), lr=0.1)
    x, y = w.data[0]

    def step() -> None:
        with CurvatureHook(h=0.5):
            F.cross_entropy(functional_call(w.net, own, (x,)), y).backward()
            opt.step()

    with pytest.raises(HookError) as error:
        step()
    _complains(error, "called with other weights", "functional_call")


def test_mode_changed_before_backward() -> None:
    w = world()
    x, y = w.data[0]

    def step() -> None:
        with CurvatureHook(h=0.5):
            loss = F.cross_entropy(w.net(x), y)
            w.net.eval()
            loss.backward()

    with pytest.raises(HookError) as error:
        step()
    _complains(error, "between train() and eval()", "training was True")


def test_a_model_that_writes_into_its_input() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = small_net()

        def forward(self, x):
            x -= 0.5
            return self.net(x)

    with pytest.raises(HookError) as error:
        _train(world(build=Net), F.cross_entropy, CurvatureHook(h=0.5))
    _complains(error, "writes into its own input", "x = x.clone()")


def test_data_parallel() -> None:
    w = world()
    x, _ = w.data[0]
    for watch in (False, True):
        with pytest.raises(HookError) as error, CurvatureHook(h=0.5) as hook:
            nn.DataParallel(w.net)(hook.watch(x) if watch else x)
        _complains(error, "DataParallel cannot be regularised", "DistributedDataParallel")


@pytest.mark.parametrize("frozen_by", ["flag", "no_grad", "flag and pooling"])
def test_trainable_head_on_a_frozen_backbone(frozen_by: str) -> None:
    w = world()
    backbone, head = w.net[:5], nn.Linear(216 if "pool" not in frozen_by else 6, 4)
    opt = torch.optim.SGD(head.parameters(), lr=0.1)
    if frozen_by != "no_grad":
        backbone.requires_grad_(False)

    def train(hook: CurvatureHook) -> CurvatureHook:
        with hook:
            for x, y in w.data:
                with torch.set_grad_enabled(frozen_by != "no_grad"):
                    feats = backbone(x)
                feats = feats.mean((2, 3)) if "pool" in frozen_by else feats.flatten(1)
                opt.zero_grad()
                F.cross_entropy(head(feats), y).backward()
                opt.step()
        return hook

    with pytest.raises(HookError) as error:
        train(CurvatureHook(h=0.5))
    _complains(
        error, "around features, not around data", "comes from Sequential", "CurvatureHook(model=<the backbone>)"
    )
    # said explicitly, both meanings work
    assert train(CurvatureHook(h=0.5, model=head)).summary().regularised_steps == 4
    assert train(CurvatureHook(h=0.5, input=0)).summary().regularised_steps == 4
    if frozen_by != "no_grad":
        data = train(CurvatureHook(h=0.5, model=backbone)).summary()
        assert data.regularised_steps == 4


def test_a_normalising_module_before_the_model_is_no_backbone() -> None:
    class Normalise(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.tensor(0.3))

        def forward(self, x):
            return x - self.mean

    w, normalise = world(), Normalise()
    opt = w.optimizer()
    with CurvatureHook(h=0.5) as hook:
        for x, y in w.data:
            opt.zero_grad()
            F.cross_entropy(w.net(normalise(x)), y).backward()
            opt.step()
    assert hook.summary().regularised_steps == 4


def test_optimiser_step_without_backward_of_the_hooked_model() -> None:
    w = world()
    x, y = w.data[0]
    opt = w.optimizer()

    def steps() -> None:
        with CurvatureHook(h=0.5):
            F.cross_entropy(w.net(x), y).backward()
            opt.step()
            opt.step()

    with pytest.raises(HookError) as error:
        steps()
    _complains(error, "never saw")


def test_optimiser_step_before_any_gradient_is_harmless() -> None:
    w = world()
    x, y = w.data[0]
    opt = w.optimizer()
    with CurvatureHook(h=0.5) as hook:
        opt.step()  # some scripts do this to quieten their scheduler
        F.cross_entropy(w.net(x), y).backward()
        opt.step()
    assert hook.summary().regularised_steps == 1


def test_other_models_train_unwatched_beside_a_named_one() -> None:
    w, other = world(), nn.Linear(36, 4)
    opt, opt_other = w.optimizer(), torch.optim.SGD(other.parameters(), lr=0.1)
    with CurvatureHook(h=0.5, model=w.net) as hook:
        for x, y in w.data:
            opt_other.zero_grad()
            F.cross_entropy(other(x.flatten(1)), y).backward()
            opt_other.step()
            opt.zero_grad()
            F.cross_entropy(w.net(x), y).backward()
            opt.step()
    assert hook.summary().regularised_steps == 4


def test_never_reached() -> None:
    with pytest.raises(HookError) as error, CurvatureHook(h=0.5):
        pass
    _complains(error, "never reached", "0 model calls recorded")


def test_input_that_requires_a_gradient_is_taken_for_an_attack() -> None:
    w = world()
    w.data = [(x.requires_grad_(), y) for x, y in w.data]
    with pytest.raises(HookError) as error:
        _train(w, F.cross_entropy, CurvatureHook(h=0.5))
    _complains(error, "its input requires a gradient already")


def test_reentrant_checkpointing() -> None:
    from torch.utils.checkpoint import checkpoint

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = small_net()

        def forward(self, x):
            return checkpoint(self.net, x, use_reentrant=True)

    with pytest.raises(HookError) as error:
        _train(world(build=Net), F.cross_entropy, CurvatureHook(h=0.5))
    _complains(error, "gradient with respect to the input could not be taken", "use_reentrant=False")


def test_gradient_penalty_through_fused_attention() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(6, 12), nn.Linear(72, 4)

        def forward(self, x):
            q, k, v = self.first(x).split(4, -1)
            out = F.scaled_dot_product_attention(q, k, v)
            return self.last(torch.cat([out, out, out], -1).flatten(1))

    def one_step(hook: CurvatureHook) -> CurvatureHook:
        net = Net()
        opt = torch.optim.SGD(net.parameters(), lr=0.1)
        x, y = torch.randn(8, 1, 6, 6), torch.randint(0, 4, (8,))
        with hook:
            F.cross_entropy(net(x), y).backward()
            opt.step()
        return hook

    with pytest.raises(HookError) as error:
        one_step(CurvatureHook(h=0.5, penalty="gradient"))
    _complains(error, "differentiates twice", "SDPBackend.MATH")
    assert one_step(CurvatureHook(h=0.5)).summary().regularised_steps == 1
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        assert one_step(CurvatureHook(h=0.5, penalty="gradient")).summary().regularised_steps == 1


@pytest.mark.parametrize("frozen_by", ["flag", "no_grad", "flag, then detached"])
@pytest.mark.parametrize("kind", ["keeps the shape", "another shape", "twice"])
def test_a_frozen_encoder_of_any_shape_is_no_data(frozen_by: str, kind: str) -> None:
    size = 36 if kind == "keeps the shape" else 12
    encoder, head = nn.Linear(36, size), nn.Linear(size, 4)
    second = nn.Linear(size, size)
    if frozen_by != "no_grad":
        encoder.requires_grad_(False)
        second.requires_grad_(False)

    def train(hook: CurvatureHook) -> None:
        opt = torch.optim.SGD(head.parameters(), lr=0.1)
        with hook:
            for x, y in world().data:
                with torch.set_grad_enabled(frozen_by != "no_grad"):
                    features = encoder(x.flatten(1)).relu()
                    features = second(features) if kind == "twice" else features * 2
                if "detached" in frozen_by:
                    features = features.detach()
                opt.zero_grad()
                F.cross_entropy(head(features), y).backward()
                opt.step()

    with pytest.raises(HookError) as error:
        train(CurvatureHook(h=0.5))
    _complains(error, "around features, not around data", "comes from Linear")
    train(CurvatureHook(h=0.5, model=head))


def test_a_frozen_teacher_of_another_shape_called_first() -> None:
    w, teacher = world(), nn.Linear(72, 4).requires_grad_(False)
    opt = w.optimizer()
    with CurvatureHook(h=0.5) as hook:
        for x, _ in w.data:
            with torch.no_grad():
                answer = teacher(torch.cat([x, x], 1).flatten(1)).softmax(1)
            opt.zero_grad()
            F.cross_entropy(w.net(x), answer).backward()
            opt.step()
    assert hook.summary().regularised_steps == 4


@pytest.mark.filterwarnings("ignore")
def test_tracing_inside_the_loop_passes() -> None:
    w = world()
    opt = w.optimizer()
    with CurvatureHook(h=0.5) as hook:
        for x, y in w.data:
            w.net.eval()
            traced = torch.jit.trace(w.net, x)
            assert torch.equal(traced(x), w.net(x))
            w.net.train()
            opt.zero_grad()
            F.cross_entropy(w.net(x), y).backward()
            opt.step()
    assert hook.summary().regularised_steps == 4


def test_an_exception_in_a_step_does_not_deafen_the_hook() -> None:
    """An optimiser that raises leaves the hook listening: the alias in the next step is still found."""
    net = nn.Linear(36, 36).double()
    x = torch.rand(8, 36, dtype=torch.float64)

    class Fails(torch.optim.SGD):
        def step(self, closure=None):
            raise ValueError("out of luck")

    opt = Fails(net.parameters(), lr=0.1)

    def train() -> None:
        with CurvatureHook(h=0.5):
            net(x).sum().backward()
            with pytest.raises(ValueError, match="out of luck"):
                opt.step()
            opt.zero_grad()
            F.mse_loss(net(x), x * 2).backward()

    with pytest.raises(HookError, match="second route"):
        train()
