"""Containers that the loop hands to a model, which writes into them: they end as without the hook."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from guard_plugins.curvature import CurvatureHook
from guard_plugins.curvature.state.containers import Filled
from guard_plugins.curvature.state.pytree import Copies, map_leaves
from guard_plugins.errors import HookError

GENERATOR = torch.Generator().manual_seed(3)
BATCHES = [
    (torch.randn(5, 6, generator=GENERATOR, dtype=torch.float64), torch.randint(0, 3, (5,), generator=GENERATOR))
    for _ in range(3)
]
CE, H = F.cross_entropy, 0.4
Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]


class Writes(nn.Module):
    """Writes what it computes into the dict that it is given, as ``write`` says."""

    def __init__(self, write: Callable[[nn.Module, Any], Any]) -> None:
        super().__init__()
        self.write, self.first, self.second = write, nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, *given: Any) -> Any:
        return self.write(self, *given)


def moved(loss: Loss, write: Any, hook: CurvatureHook | None, *, by_hand: bool = False) -> list[Tensor]:
    """Return the weights after a step on every batch, under the hook or with its term written out."""
    torch.manual_seed(0)
    net = Writes(write).double()
    sgd = torch.optim.SGD(net.parameters(), 0.1)

    def loop() -> None:
        for x, y in BATCHES:
            sgd.zero_grad()
            if by_hand:
                x = x.clone().requires_grad_()
                here = loss(net, x, y)
                (gradient,) = torch.autograd.grad(here, x, retain_graph=True)
                z = H * gradient / gradient.norm(dim=1, keepdim=True)
                (here + (loss(net, x.detach() + z, y) - here).abs()).backward()
            else:
                loss(net, x.clone(), y).backward()
            sgd.step()

    loop() if hook is None else hook(loop)()
    return [weight.detach() for weight in net.parameters()]


def require_equal(loss: Loss, write: Any) -> None:
    found = moved(loss, write, CurvatureHook(h=H))
    wanted, plain = moved(loss, write, None, by_hand=True), moved(loss, write, None)
    assert max(float((a - b).abs().max()) for a, b in zip(found, wanted, strict=True)) < 1e-14
    assert max(float((a - b).abs().max()) for a, b in zip(found, plain, strict=True)) > 1e-4


def test_a_second_call_with_the_dict_that_the_first_wrote_into_is_no_silent_part() -> None:
    def write(net: Any, batch: Any, key: str) -> None:
        batch[key] = (net.first if key == "a" else net.second)(batch["x"])

    def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        batch = {"x": x}
        net(batch, "a")
        net(batch, "b")
        return CE(batch["a"], y) + CE(batch["b"], y)

    with pytest.raises(HookError, match="second route"):
        moved(loss, write, CurvatureHook(h=H))


def test_a_nested_container_that_the_model_replaces_leaves_the_loops_own_alone() -> None:
    options = {"scale": 1.5}

    def write(net: Any, batch: Any) -> Tensor:
        batch["options"] = {**batch["options"], "scale": batch["options"]["scale"] * 2}
        return net.first(batch["x"]) * batch["options"]["scale"]

    require_equal(lambda net, x, y: CE(net({"x": x, "options": options}), y), write)
    assert options == {"scale": 1.5}


def test_a_container_that_is_there_twice_is_one() -> None:
    def write(net: Any, batch: Any) -> Tensor:
        batch["losses"]["auxiliary"] = net.second(batch["x"]).square().mean()
        return net.first(batch["x"])

    def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        log: dict[str, Tensor] = {}
        found = CE(net({"x": x, "losses": log, "log": log}), y)
        return found + sum(log.values())

    require_equal(loss, write)


def test_a_list_that_is_two_arguments_is_one() -> None:
    def write(net: Any, x: Tensor, left: Any, right: Any) -> Tensor:
        left.append(net.second(x))
        return net.first(x) + right[-1]

    def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        kept: list[Tensor] = []
        return CE(net(x, kept, kept), y) + kept[0].square().mean()

    require_equal(loss, write)


def test_a_result_that_is_the_argument_is_the_loops_own() -> None:
    def write(net: Any, batch: Any) -> Any:
        batch["loss"] = net.first(batch["x"]).square().mean()
        return batch

    def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        batch = {"x": x}
        found = net(batch)
        assert found is batch
        found["scale"] = 2
        return batch["loss"] * batch["scale"]

    require_equal(loss, write)


@pytest.mark.parametrize("returns", [True, False])
def test_batches_that_are_handed_over_again_keep_their_turn(returns: bool) -> None:
    def write(net: Any, batch: Any) -> Any:
        batch["out"] = net.first(batch["x"])
        return batch["out"] if returns else None

    torch.manual_seed(0)
    net, kept = Writes(write).double(), [{"x": x, "y": y} for x, y in BATCHES]
    sgd, hook = torch.optim.SGD(net.parameters(), 0.1), CurvatureHook(h=H, every=2)
    with hook:
        for batch in kept * 4:
            sgd.zero_grad()
            net(batch)
            CE(batch["out"], batch["y"]).backward()
            sgd.step()
    assert (hook.summary().regularised_steps, hook.summary().steps) == (6, 12)


def test_what_is_handed_back() -> None:
    shared = {"n": 1}
    given = {"a": [1, 2, 3], "b": deque([1, 2]), "c": (["x"], 4), "d": 5, "s": shared, "t": shared}
    copies: Copies = {}
    used = map_leaves(lambda leaf: leaf, (given,), copies)
    filled = Filled(used, {}, {id(copy): original for original, copy in copies.values()})
    (batch,) = used
    assert batch["s"] is batch["t"]
    batch["a"].pop(0)
    batch["b"].append(3)
    batch["c"][0].append("y")
    del batch["d"]
    batch["s"]["n"] = 2
    batch["new"] = [batch["s"]]
    assert filled.handed_back(batch, ((given,), {})) is given
    assert given == {
        "a": [2, 3], "b": deque([1, 2, 3]), "c": (["x", "y"], 4), "s": {"n": 2}, "t": {"n": 2}, "new": [{"n": 2}],
    }  # fmt: skip
    assert given["new"][0] is shared  # type: ignore[index]


class Optional(nn.Module):
    """Leaves out what it does not need; ``thr`` lies between what it is compared with at x and at x + z."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.a, self.b, self.kind, self.thr = nn.Linear(5, 3), nn.Linear(5, 3), kind, 0.0

    def forward(self, x: Tensor) -> Any:
        main, more = self.a(x), self.b(x)
        needed = bool(main.square().mean() > self.thr)
        if self.kind == "dict":
            return {"first": main, **({"extra": 3 * more} if needed else {}), "last": more}
        if self.kind == "other key":
            return {"first": main, ("extra" if needed else "last"): more}
        if self.kind == "none":
            return {"first": main, "extra": more if needed else None, "last": more}
        return [*([3 * more] if needed else []), main]


@pytest.mark.parametrize("kind", ["dict", "other key", "none", "list"])
@pytest.mark.parametrize("way", [{}, {"weight": 0.5}, {"penalty": "gradient"}])
def test_results_that_hold_other_things_at_another_input_are_refused(kind: str, way: dict[str, Any]) -> None:
    torch.manual_seed(0)
    net, x = Optional(kind).double(), torch.randn(6, 5, dtype=torch.float64)
    with torch.no_grad():
        net.thr = float(net.a(x).square().mean()) * (1 + 1e-9)

    def train() -> None:
        out = net(x)
        (out[-1] if isinstance(out, list) else out["first"] + out["last"]).square().mean().backward()

    with pytest.raises(HookError, match="returns other things at x \\+ z") as caught:
        CurvatureHook(h=0.5, **way)(train)()
    assert "the same keys" in str(caught.value)
    assert all(p.grad is None for p in net.parameters()) or way.get("weight") == 0.5


def test_results_of_another_form_in_eval_mode_are_refused() -> None:
    class Auxiliary(Optional):
        def forward(self, x: Tensor) -> Any:
            return (self.a(x), self.b(x)) if self.training else self.a(x)

    net, x = Auxiliary("").double(), torch.randn(6, 5, dtype=torch.float64)
    hook = CurvatureHook(h=0.5, norm_stats="running")
    with pytest.raises(HookError, match="returns other things in eval mode") as caught:
        hook(lambda: net(x)[0].square().mean().backward())()
    assert "a sequence of 2 in the loop's call, a tensor in eval mode" in str(caught.value)


def test_results_that_hold_the_same_things_are_followed() -> None:
    torch.manual_seed(0)
    net, x = Optional("dict").double(), torch.randn(6, 5, dtype=torch.float64)
    net.thr = 1e9
    optimiser = torch.optim.SGD(net.parameters(), 0.1)
    with CurvatureHook(h=0.5):
        out = net(x)
        (out["first"] + out["last"]).square().mean().backward()
        optimiser.step()


class Detector(nn.Module):
    """Returns losses first and what it finds after them, which are as many as there are."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layer, self.kind = nn.Linear(5, 3).double(), kind

    def forward(self, x: Tensor) -> Any:
        out = self.layer(x)
        found = [row for row in out if float(row.detach()[0]) > 0]
        if self.kind == "tuple":
            return out, found
        if self.kind == "object":
            return SimpleNamespace(loss=SimpleNamespace(main=out), found=dict(enumerate(found)))
        return {"loss": {"main": out}, "found": found}


@pytest.mark.parametrize("kind", ["tuple", "dict", "object"])
@pytest.mark.parametrize("way", [{}, {"weight": 0.5}, {"penalty": "gradient"}])
def test_what_lies_before_a_part_of_another_length_is_followed(kind: str, way: dict[str, Any]) -> None:
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    found = []
    for net in (Detector(kind), Detector(kind).layer):
        with CurvatureHook(h=2.0, **way):
            out = net(x)
            if isinstance(out, SimpleNamespace):
                out = out.loss.main
            elif isinstance(out, (tuple, dict)):
                out = out[0] if isinstance(out, tuple) else out["loss"]["main"]
            out.square().mean().backward()
        found.append([p.grad for p in net.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_what_is_taken_of_a_part_of_another_length_is_refused() -> None:
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    net = Detector("tuple")
    with CurvatureHook(h=2.0):
        out, found = net(x)
        loss = out.square().mean() + found[0].sum()
        with pytest.raises(HookError, match="returns other things at x \\+ z"):
            loss.backward()
