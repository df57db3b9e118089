"""Data that reach the loss by several routes: exact where the loop says what x is, refused at step 1 where not."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from guard_plugins.curvature import CurvatureHook
from guard_plugins.errors import HookError
from tests.curvature.gaps import H, by_hand, distance, gap, under_hook

X = torch.randn(6, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.tensor([0, 1, 2, 3, 1, 0])
CE = F.cross_entropy


class Nets(nn.Module):
    """The weights the loops below work with."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.a, self.b, self.pair = nn.Linear(16, 16), nn.Linear(16, 4), nn.Linear(8, 16)
        self.cell, self.w = nn.GRUCell(4, 16), nn.Parameter(torch.randn(16, 16) / 4)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.double()


class Skip(nn.Module):
    """Uses x twice, so that calling ``forward`` directly shows both uses to the loop."""

    def __init__(self, n: Nets) -> None:
        super().__init__()
        self.a, self.b = n.a, n.b

    def forward(self, x: Tensor) -> Tensor:
        return self.b((x + self.a(x)).tanh())


def pooled(x: Tensor) -> Tensor:
    return x.view(len(x), 8, 2).mean(2)


def refined(n: Nets, x: Tensor) -> Tensor:
    h = n.a(x)
    for _ in range(3):
        h = n.a((h + x).tanh())
    return n.b(h)


def joined(n: Nets, x: Tensor) -> Tensor:
    h = torch.zeros_like(x)
    for _ in range(2):
        h = h + n.pair(torch.cat([x[:, :4], h[:, :4]], 1)).tanh()
    return n.b(h)


def unrolled(n: Nets, x: Tensor) -> Tensor:
    h = torch.zeros(len(x), 16, dtype=x.dtype)
    for t in range(4):
        h = n.cell(x[:, 4 * t : 4 * t + 4], h)
    return n.b(h)


def after(n: Nets, x: Tensor) -> Tensor:
    s = x @ n.w
    return n.b((n.a(x) + s).tanh())


def written(n: Nets, x: Tensor) -> Tensor:
    canvas = torch.zeros(6, 16, dtype=x.dtype)
    canvas[:, :] = x
    return n.b(n.a(x) * canvas)


def listed(n: Nets, x: Tensor) -> Tensor:
    parts = [n.pair(part) for part in x.split(8, dim=1)]
    return n.b(torch.stack([*parts, x]).sum(0).tanh())


ROUTES: dict[str, Callable[[Nets, Tensor], Tensor]] = {
    "x once more": lambda n, x: n.b((x + n.a(x)).tanh()),
    "a view once more": lambda n, x: n.b((x[:, :] * n.a(x)).tanh()),
    "a slice once more": lambda n, x: n.b(torch.cat([n.a(x)[:, 8:], x[:, :8]], 1).tanh()),
    "a copy once more": lambda n, x: n.b((x.clone() + n.a(x)).tanh()),
    "residual in rounds": refined,
    "forward of a skip": lambda n, x: Skip(n).forward(x),
    "functional beside a module": lambda n, x: n.b((n.a(x) + x @ n.w).tanh()),
    "functional before a module": after,
    "functional linear beside a module": lambda n, x: n.b((n.a(x) + F.linear(x, n.w)).tanh()),
    "two branches": lambda n, x: n.b(n.a(x) * n.pair(pooled(x))),
    "two branches, the derived one first": lambda n, x: n.b(n.pair(pooled(x)) * n.a(x)),
    "a branch of noise on x": lambda n, x: n.b(n.a(x) * n.a(x + 0.1)),
    "a mask of x": lambda n, x: n.b(n.a(x) * (x > 0).to(x.dtype)),
    "a statistic of x": lambda n, x: n.b(n.a(x) - x.mean(1, keepdim=True)),
    "written into a buffer": written,
    "a list of parts": listed,
    "joined with a state in rounds": joined,
    "a residual around scaled data": lambda n, x: n.b((x + n.a(x / 2)).tanh()),
    "a residual around a functional norm": lambda n, x: n.b((x + n.a(F.layer_norm(x, (16,)))).tanh()),
    "two tensors made from one": lambda n, x: n.b((x.flip(1) + n.a(x / 2)).tanh()),
    "two branches on two tensors made from one": lambda n, x: n.b(n.a(x * 2) * n.pair(pooled(x))),
    "views of one another": lambda n, x: n.b(n.pair(x[:, :8]) * n.pair(x[:, 4:12])),
}


@pytest.mark.parametrize("weight", [1.0, 2.0])
@pytest.mark.parametrize("name", [name for name in ROUTES if name != "written into a buffer"])
def test_a_watched_x_moves_on_every_route(name: str, weight: float) -> None:
    n = Nets()
    hook = CurvatureHook(h=H, weight=weight)
    assert gap(n, lambda x: CE(ROUTES[name](n, x), Y), X.clone(), watch=True, hook=hook) <= 1e-9


@pytest.mark.parametrize("name", [*ROUTES])
def test_otherwise_a_second_route_is_refused(name: str) -> None:
    n = Nets()
    with pytest.raises(HookError) as error:
        gap(n, lambda x: CE(ROUTES[name](n, x), Y), X.clone())
    assert "x = hook.watch(x)" in str(error.value)
    assert "second route" in str(error.value)


@pytest.mark.parametrize("name", ["recurrent cell", "recurrent cell in a list"])
def test_an_unrolled_cell_needs_its_x_watched(name: str) -> None:
    n = Nets()
    loop = unrolled
    assert gap(n, lambda x: CE(loop(n, x), Y), X.clone(), watch=True) <= 1e-9
    with pytest.raises(HookError, match="several float inputs") as error:
        gap(n, lambda x: CE(loop(n, x), Y), X.clone())
    assert "input (6, 4), hx (6, 16)" in str(error.value)


@pytest.mark.parametrize("watch", [False, True])
def test_one_tensor_in_several_arguments_is_one_x(watch: bool) -> None:
    n = Nets()
    s = X.view(2, 3, 16).clone()
    assert gap(n, lambda s: n.attention(s, s, s)[0].square().mean(), s, watch=watch) <= 1e-9
    y = Y[:2]
    assert gap(n, lambda s: CE(n.attention(query=s, key=s, value=s)[0].mean(1), y), s, watch=watch) <= 1e-9
    assert gap(n, lambda s: n.attention(s, s, s, need_weights=False)[0].tanh().mean(), s, watch=watch) <= 1e-9


CONSTANTS: dict[str, Callable[[Nets, Tensor], Tensor]] = {
    "detached target": lambda n, x: F.mse_loss(n.a(x), x.detach()),
    "target made without gradients": lambda n, x: F.mse_loss(n.a(x), without_gradients(lambda: x * 2)),
    "noise shaped like x": lambda n, x: (n.a(x) * seeded(lambda: torch.randn_like(x))).square().mean(),
    "zeros shaped like x": lambda n, x: F.mse_loss(n.a(x), torch.zeros_like(x)),
    "what x was made from": lambda n, x: F.mse_loss(n.a(x + 1), X),
    "the other half": lambda n, x: F.mse_loss(n.pair(x[:, :8])[:, :8], X[:, 8:]),
    "soft targets": lambda n, x: CE(n.b(n.a(x)), F.one_hot(Y, 4).double() * 0.9 + 0.025),
}


def without_gradients(f: Callable[[], Tensor]) -> Tensor:
    with torch.no_grad():
        return f()


def seeded(f: Callable[[], Tensor]) -> Tensor:
    torch.manual_seed(4)
    return f()


@pytest.mark.parametrize("name", CONSTANTS)
def test_what_is_detached_stays_data(name: str) -> None:
    """The twin's targets are those of x itself: it is written with x at hand, and moves its argument alone."""
    n = Nets()
    fixed = X.clone()

    def loop(x: Tensor) -> Tensor:
        return CONSTANTS[name](n, x)

    def twin(moving: Tensor) -> Tensor:
        match name:
            case "detached target":
                return F.mse_loss(n.a(moving), fixed)
            case "target made without gradients":
                return F.mse_loss(n.a(moving), fixed * 2)
            case "what x was made from":
                return F.mse_loss(n.a(moving + 1), fixed)
            case _:
                return loop(moving)

    ours = under_hook(n, lambda _: loop(fixed.clone()), CurvatureHook(h=H))
    assert distance(ours, by_hand(twin, [fixed], list(n.parameters()))) <= 1e-9


def test_teachers_and_mixup_stay_allowed() -> None:
    n = Nets()
    teacher = nn.Linear(16, 4).double().requires_grad_(False)
    x = X.clone()
    with torch.no_grad():
        answer = teacher(x).softmax(1)
    assert gap(n, lambda x: CE(n.b(n.a(x)), answer), x) <= 1e-9
    mixed = 0.3 * x + 0.7 * x.flip(0)
    assert gap(n, lambda x: CE(n.b(n.a(x)), Y) * 0.3 + 0.7 * CE(n.b(n.a(x)), Y.flip(0)), mixed) <= 1e-9
    other = nn.Linear(48, 4).double().requires_grad_(False)
    with torch.no_grad():
        wide = other(x.repeat(1, 3)).softmax(1)  # a teacher of another shape, called first
    assert gap(n, lambda x: F.kl_div(n.b(n.a(x)).log_softmax(1), wide, reduction="batchmean"), x) <= 1e-9


def test_a_teacher_with_gradients_on_is_asked_about() -> None:
    n = Nets()
    teacher = nn.Linear(16, 4).double().requires_grad_(False)
    with pytest.raises(HookError, match="second route") as error:
        gap(n, lambda x: F.mse_loss(n.b(n.a(x)), teacher(x)), X.clone())
    assert "torch.no_grad()" in str(error.value)
    assert gap(n, lambda x: F.mse_loss(n.b(n.a(x)), teacher(x)), X.clone(), watch=True) <= 1e-9


def test_a_fixed_and_a_moving_target_are_both_named() -> None:
    n = Nets()
    with pytest.raises(HookError) as error:
        gap(n, lambda x: F.mse_loss(n.a(x), x), X.clone())
    assert "x.detach()" in str(error.value)
    assert "hook.watch(x)" in str(error.value)
    assert "a tensor of shape (6, 16)" in str(error.value)
    assert gap(n, lambda x: F.mse_loss(n.a(x), x), X.clone(), watch=True) <= 1e-9


def test_disjoint_halves_are_two_inputs() -> None:
    n = Nets()
    whole = X.clone()
    for a, b in ((whole[:3], whole[3:]), (whole[::2], whole[1::2])):
        assert gap(n, lambda a, b: CE(n.b(n.a(a)), Y[:3]) + CE(n.b(n.a(b)), Y[3:]), a, b) <= 1e-9
    left, right = whole[:, :8], whole[:, 8:]
    assert gap(n, lambda a, b: CE(n.b(n.pair(a) * n.pair(b)), Y), left, right) <= 1e-9


CUT: dict[str, Callable[[Nets, Tensor, Tensor], Tensor]] = {
    "a mask": lambda n, x, m: m * (n.a(x)[:, :8] > 0),
    "an index": lambda n, x, m: m[n.a(x).argmax(1) % 6],
    "a choice": lambda n, x, m: torch.where(n.a(x)[:, :8] > 0, m, -m),
}


@pytest.mark.parametrize("name", CUT)
def test_data_cut_by_masks_of_x_are_asked_about(name: str) -> None:
    n, m = Nets(), torch.randn(6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    with pytest.raises(HookError, match="only by comparisons or indices") as error:
        gap(n, lambda x: CE(n.b(n.pair(CUT[name](n, x, m))), Y), X.clone())
    assert ".detach()" in str(error.value)
    cut = CUT[name](n, X, m).detach()
    assert gap(n, lambda cut: CE(n.b(n.pair(cut)), Y), cut) <= 1e-9


class Film(nn.Module):
    """A module that joins data with a condition."""

    def __init__(self, n: Nets) -> None:
        super().__init__()
        self.a, self.b = n.a, n.b

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        return self.b((self.a(x) * condition).tanh())


FRESH: dict[str, Callable[[Nets, Tensor, Tensor], Tensor]] = {
    "film": lambda n, x, m: Film(n)(x, n.pair(m)),
    "bilinear": lambda n, x, m: n.b(Film(n).a(x) * n.pair(m)),
    "attention": lambda n, x, m: n.attention(n.pair(m)[:, None], *[torch.stack([x, 0.5 * x], 1)] * 2)[0][:, 0, :4],
}


@pytest.mark.parametrize("name", FRESH)
def test_two_fresh_inputs_have_each_their_own_z(name: str) -> None:
    n, meta = Nets(), torch.randn(6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    assert gap(n, lambda x, m: CE(FRESH[name](n, x, m), Y), X.clone(), meta, watch=True) <= 1e-9


@pytest.mark.parametrize("name", ["film", "attention"])
def test_fresh_data_beside_a_recorded_tensor_are_refused_unless_said(name: str) -> None:
    n, meta = Nets(), torch.randn(6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    with pytest.raises(HookError, match="received fresh float data beside a tensor computed from x") as error:
        gap(n, lambda x, m: CE(FRESH[name](n, x, m), Y), X.clone(), meta)
    assert "CurvatureHook(model=...)" in str(error.value)
    # with the model named, or one of them watched, the other is data
    assert gap(n, lambda m: CE(FRESH[name](n, X, m), Y), meta, hook=CurvatureHook(h=H, model=n.pair)) <= 1e-9
    ours = under_hook(n, lambda hook: CE(FRESH[name](n, hook.watch(X), meta), Y), CurvatureHook(h=H))
    assert distance(ours, by_hand(lambda x: CE(FRESH[name](n, x, meta), Y), [X], list(n.parameters()))) <= 1e-9


def test_watching_outside_a_context_or_without_gradients_changes_nothing() -> None:
    hook, n = CurvatureHook(h=H), Nets()
    assert hook.watch(X) is X
    with hook:
        with torch.no_grad():
            assert hook.watch(X) is X
        with hook.paused():
            assert hook.watch(X) is X
        x = hook.watch(X)
        assert x.requires_grad
        assert not X.requires_grad
        assert hook.watch(x) is x
        CE(n.b(n.a(x)), Y).backward()
    assert X.grad is None
    assert x.grad is None


def test_watched_structures() -> None:
    n = Nets()

    def loop(batch: dict[str, object]) -> Tensor:
        left, right = batch["pair"]
        return CE(n.b(n.pair(left) * n.pair(right)), batch["label"])

    def run(hook: CurvatureHook) -> Tensor:
        return loop(hook.watch({"pair": (X[:, :8].clone(), X[:, 8:].clone()), "label": Y, "name": "b"}))

    ours = under_hook(n, run, CurvatureHook(h=H))
    expected = by_hand(lambda a, b: loop({"pair": (a, b), "label": Y}), [X[:, :8], X[:, 8:]], list(n.parameters()))
    assert distance(ours, expected) <= 1e-9


def test_a_joint_z_is_one_step_over_all_tensors() -> None:
    n = Nets()

    def run(hook: CurvatureHook) -> Tensor:
        left, right = hook.watch((X[:, :8].clone(), X[:, 8:].clone()), joint=True)
        return CE(n.b(n.pair(left) * n.pair(right)), Y)

    for options in ({}, {"weight": 2.0}):
        ours = under_hook(n, run, CurvatureHook(h=H, **options))
        expected = by_hand(
            lambda x: CE(n.b(n.pair(x[:, :8]) * n.pair(x[:, 8:])), Y), [X], list(n.parameters()), **options
        )
        assert distance(ours, expected) <= 1e-9


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ([1, "a"], "list without a floating-point tensor"),
        (torch.arange(3), "Tensor without a floating-point tensor"),
        (torch.ones(3, 2, requires_grad=True), "requires a gradient already"),
    ],
)
def test_what_cannot_be_watched(value: object, word: str) -> None:
    hook = CurvatureHook(h=H)
    with pytest.raises(HookError, match=r"cannot be x") as error, hook:
        hook.watch(value)
    assert word in str(error.value)


def test_x_written_between_forward_and_backward() -> None:
    n, x = Nets(), X.clone()

    def run(hook: CurvatureHook) -> Tensor:
        loss = n.a(x).sum()
        x.add_(1)
        return loss

    with pytest.raises(HookError, match="x was written into"):
        under_hook(n, run, CurvatureHook(h=H))


def test_lineage_is_not_followed_outside_the_context() -> None:
    n, x = Nets(), X.clone()
    derived = x * 2
    with CurvatureHook(h=H), nullcontext():
        F.mse_loss(n.a(x), derived).backward()


@pytest.mark.parametrize("made", [torch.zeros, torch.ones])
def test_samples_collated_into_zeros_are_data(made: Callable[..., Tensor]) -> None:
    n = Nets()

    def loss(x: Tensor, hook: CurvatureHook | None = None) -> Tensor:
        batch = x
        if not x.requires_grad and hook is not None:
            batch = made(6, 16, dtype=torch.float64)
            for i, sample in enumerate(x.numpy()):
                batch[i, : len(sample)] = torch.from_numpy(sample)
            batch = hook.watch(batch) if watched else batch
        return CE(n.b((batch + n.a(batch / 2)).tanh()), Y)

    watched = True
    ours = under_hook(n, lambda hook: loss(X, hook), CurvatureHook(h=H))
    assert distance(ours, by_hand(loss, [X], list(n.parameters()))) < 1e-12
    watched = False
    with pytest.raises(HookError, match="second route"):
        under_hook(n, lambda hook: loss(X, hook), CurvatureHook(h=H))
