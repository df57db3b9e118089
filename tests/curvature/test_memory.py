"""What a loop keeps undetached must not keep the recorded batches."""

from __future__ import annotations

import ctypes
import gc
import platform
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from guard_plugins.curvature import CurvatureHook
from guard_plugins.curvature.record.graph import Call
from guard_plugins.curvature.replay.replay import ancestry
from guard_plugins.errors import HookError
from tests.curvature.gaps import H

PAGE = 4096


def _net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 64, 10))


def _appended(kept: list, out: Tensor, loss: Tensor) -> None:
    kept.append(loss)


def _summed(kept: list, out: Tensor, loss: Tensor) -> None:
    kept[:] = [kept[0] + loss] if kept else [loss]


def _outputs(kept: list, out: Tensor, loss: Tensor) -> None:
    kept.append({"loss": loss, "mean": out.mean()})


STYLES = {"losses.append(loss)": _appended, "total += loss": _summed, "a dict of results": _outputs}


def _loop(keep: Callable[[list, Tensor, Tensor], None], steps: int, size: int = 128) -> list:
    net, kept = _net(), []
    opt = torch.optim.SGD(net.parameters(), 0.01)
    for _ in range(steps):
        x, y = torch.randn(size, 3, 32, 32), torch.randint(0, 10, (size,))
        opt.zero_grad()
        out = net(x)
        loss = F.cross_entropy(out, y)
        loss.backward()
        opt.step()
        keep(kept, out, loss)
    return kept


def _resident() -> float:
    """Memory in use, in MiB. Freed blocks are given back first, since how many the C library keeps varies."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 2**20


def _grown(keep: Callable[[list, Tensor, Tensor], None]) -> float:
    _loop(keep, 5)
    before = _resident()
    kept = _loop(keep, 300)
    grown = _resident() - before
    assert kept
    return grown


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
@pytest.mark.parametrize("style", STYLES)
def test_kept_results_do_not_keep_the_batches(style: str) -> None:
    plain = _grown(STYLES[style])
    with CurvatureHook(h=H):
        hooked = _grown(STYLES[style])
    assert hooked <= plain + 20


@pytest.mark.parametrize("style", STYLES)
def test_the_record_is_spent_with_the_graph(style: str) -> None:
    with CurvatureHook(h=H) as hook:
        kept = _loop(STYLES[style], 4, size=4)
        ledger = hook._session.ledger
        tensors = [t for entry in kept for t in (entry.values() if isinstance(entry, dict) else [entry])]
        nodes = [node for t in tensors if (node := ledger.node(t)) is not None]
        calls = [node for node in ancestry(nodes) if isinstance(node, Call)]
        assert nodes
        assert not any(call.args or call.kwargs or call.plain for call in calls)


def test_the_loop_s_own_batch_is_untouched() -> None:
    net, x, y = _net(), torch.randn(4, 3, 32, 32), torch.randint(0, 10, (4,))
    before = x.clone()
    with CurvatureHook(h=H):
        for _ in range(3):
            F.cross_entropy(net(x), y).backward()
    assert torch.equal(x, before)


def test_a_batch_may_feed_two_backward_calls() -> None:
    """Two graphs from one tensor: the first one's end must not take the second one's input away."""
    net, x, y = _net().double(), torch.randn(4, 3, 32, 32, dtype=torch.float64), torch.randint(0, 10, (4,))
    grads = []
    for interleaved in (True, False):
        net.zero_grad()
        with CurvatureHook(h=H):
            if interleaved:
                a, b = F.cross_entropy(net(x), y), F.cross_entropy(net(x), y.flip(0))
                a.backward()
                b.backward()
            else:
                F.cross_entropy(net(x), y).backward()
                F.cross_entropy(net(x), y.flip(0)).backward()
        grads.append(torch.cat([p.grad.flatten() for p in net.parameters()]))
    assert torch.allclose(grads[0], grads[1], rtol=1e-12)


def test_a_second_backward_names_retain_graph() -> None:
    net, x, y = _net(), torch.randn(4, 3, 32, 32), torch.randint(0, 10, (4,))

    def twice() -> None:
        with CurvatureHook(h=H):
            out = net(x)
            F.cross_entropy(out, y).backward()
            out.square().mean().backward()

    with pytest.raises(HookError, match="cannot be computed again") as error:
        twice()
    assert "retain_graph=True" in str(error.value)


def test_evaluations_with_gradients_on_are_freed() -> None:
    net, refs = _net(), []
    with CurvatureHook(h=H) as hook:
        for _ in range(3):
            x = torch.randn(4, 3, 32, 32)
            refs.append(weakref.ref(net(hook.watch(x))))
            refs.append(weakref.ref(x))
        del x
        gc.collect()
        assert [ref() for ref in refs] == [None] * 6
        F.cross_entropy(net(hook.watch(torch.randn(4, 3, 32, 32))), torch.randint(0, 10, (4,))).backward()


def _plain(net: nn.Module, hook: CurvatureHook, x: Tensor) -> Tensor:
    return net(x)


def _watched(net: nn.Module, hook: CurvatureHook, x: Tensor) -> Tensor:
    x = hook.watch(x)
    return net(x) + x[:, :2]


def _attacked(net: nn.Module, hook: CurvatureHook, x: Tensor) -> Tensor:
    leaf = x.clone().requires_grad_()
    net(leaf).sum().backward()
    net.zero_grad()
    return net((x + leaf.grad).detach())


def _beside_another(net: nn.Module, hook: CurvatureHook, x: Tensor) -> Tensor:
    return net(x) + nn.Linear(4, 2)(x)


def _functional(net: nn.Module, hook: CurvatureHook, x: Tensor) -> Tensor:
    return hook.watch(x) @ nn.Parameter(torch.randn(4, 2)) + net[2](net[0](hook.watch(x)))


def _with_a_state(net: nn.Module, hook: CurvatureHook, x: Tensor) -> Tensor:
    log = net.__dict__.setdefault("log", [])
    log[:] = [0.9 * (log[0] if log else torch.zeros(4)) + 0.1 * x.mean(0)]
    return net(x / 2)


def _kept(hook: CurvatureHook) -> list[int]:
    session, checks, paces = hook._session, hook._checkpoints, hook._paces
    tokens = {token for known in session.ledger._known.values() for token in known.ancestors}
    kinds = sum(len(kinds) for models in checks._known.values() for kinds in models.values())
    return [
        len(session.ledger._known), len(tokens), len(session.watchdog._strays._left), len(session.recorder._weights),
        len(checks._known), kinds, len(checks._numbers), len(paces._steps), len(paces._loose), len(paces._called),
    ]  # fmt: skip


@pytest.mark.parametrize("loop", [_plain, _watched, _attacked, _beside_another, _functional, _with_a_state])
def test_nothing_grows_from_step_to_step(loop: Callable[[nn.Module, CurvatureHook, Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    net, sizes = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2)), []
    opt = torch.optim.SGD(net.parameters(), 0.01)
    with CurvatureHook(h=H) as hook:
        for step in range(60):
            opt.zero_grad()
            loop(net, hook, torch.randn(3, 4)).square().mean().backward()
            opt.step()
            if step in (19, 59):
                gc.collect()
                sizes.append(_kept(hook))
    assert sizes[0] == sizes[1]


def test_a_buffer_that_takes_every_batch_forgets_those_that_are_gone() -> None:
    net, batch = nn.Linear(4, 2), torch.empty(3, 4)
    opt = torch.optim.SGD(net.parameters(), 0.01)
    with CurvatureHook(h=H) as hook:
        for _ in range(100):
            batch.copy_(torch.randn(3, 4))
            opt.zero_grad()
            net(batch).square().mean().backward()
            opt.step()
        assert len(hook._session.ledger.of(batch).ancestors) < 40


@pytest.mark.parametrize("kind", ["added", "added in place", "list", "matrix"])
def test_an_accuracy_taken_before_backward_does_not_keep_the_labels(kind: str) -> None:
    torch.manual_seed(0)
    net, seen, accuracies = nn.Linear(4, 2), [], []
    correct, matrix = torch.zeros(()), torch.zeros(2, 2)
    opt = torch.optim.SGD(net.parameters(), 0.01)
    with CurvatureHook(h=H):
        for _ in range(10):
            x, y = torch.randn(6, 4), torch.randint(0, 2, (6,))
            out = net(x)
            loss = F.cross_entropy(out, y)
            right = (out.argmax(1) == y).float()
            if kind == "added":
                correct = correct + right.sum()
            elif kind == "added in place":
                correct += right.sum()
            elif kind == "list":
                accuracies.append(right.mean())
            else:
                matrix.index_put_((y, out.argmax(1)), torch.ones(6), accumulate=True)
            seen.append(weakref.ref(y))
            opt.zero_grad()
            loss.backward()
            opt.step()
            del x, y, out, loss, right
            gc.collect()
            assert all(ref() is None for ref in seen)


def test_results_kept_from_steps_without_the_term_cost_no_time() -> None:
    net, kept = nn.Linear(4, 3), []
    with CurvatureHook(h=0.1, every=1000) as hook:
        for _ in range(20):
            out = net(torch.randn(5, 4))
            kept.append(out.argmax(1).double().mean())
            out.square().mean().backward()
        assert hook._session is not None
        assert len(hook._session.ledger._marked) < 10
