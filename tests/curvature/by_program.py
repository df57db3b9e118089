"""A generated loop as its author wrote it, and its twin: the same loop with the objective by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tests.curvature.grammar import SIZE, Model, Program, Run

H, RATE, BLUR = 0.5, 0.1, 1e-9


def data() -> tuple[Tensor, Tensor, Tensor]:
    """Return x, m and labels."""
    g = torch.Generator().manual_seed(5)
    x, m = (torch.randn(SIZE, dtype=torch.float64, generator=g) for _ in range(2))
    return x, m, torch.randint(0, 8, SIZE[:1], generator=g)


def model(number: int = 0) -> Model:
    """Return the freshly seeded weights of the first model, or of another."""
    torch.manual_seed(2 + number)
    return Model()


@dataclass
class Gradients:
    """How the losses of one step become gradients, and the step itself."""

    program: Program
    net: Model
    weights: list[Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self.weights = [p for p in self.net.parameters() if p.requires_grad]

    def before_forward(self) -> None:
        if self.program.switched == "unfrozen after forward":
            self.net.linear.requires_grad_(False)

    def after_forward(self) -> None:
        if self.program.switched != "no":
            self.net.linear.requires_grad_(self.program.switched == "unfrozen after forward")

    def roots(self, losses: Sequence[Tensor]) -> list[Tensor]:
        """Return what is differentiated: each loss apart, or their sum."""
        return list(losses) if self.program.backward == "apart" else [sum(losses[1:], start=losses[0])]

    def differentiate(self, roots: Sequence[Tensor]) -> None:
        """Differentiate as the program says."""
        for i, root in enumerate(roots):
            if self.program.backward == "autograd.grad":
                live = [w for w in self.weights if w.requires_grad]
                for w, g in zip(live, torch.autograd.grad(root, live, allow_unused=True), strict=True):
                    w.grad = g
            elif self.program.backward == "autograd.backward":
                torch.autograd.backward([root])
            else:
                root.backward(retain_graph=i + 1 < len(roots))

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        self.net.linear.requires_grad_(True)
        optimizer.step()


def penalise(program: Program, net: Model, paused: Callable[[], AbstractContextManager]) -> Tensor | None:
    """Differentiate a penalty of gradients apart, or return it to be added to the loss."""
    if program.gradient_penalty == "no":
        return None
    with paused() if program.gradient_penalty == "paused" else nullcontext():
        v = torch.full(SIZE, 0.3, dtype=torch.float64, requires_grad=True)
        (g,) = torch.autograd.grad(net.linear(v).tanh().sum(), v, create_graph=True)
        penalty = 0.05 * g.square().sum()
        if program.gradient_penalty == "in the loss":
            return penalty
        penalty.backward()
    return None


def added(losses: list[Tensor], penalty: Tensor | None) -> list[Tensor]:
    return losses if penalty is None else [losses[0] + penalty, *losses[1:]]


def entered(program: Program, watch: Callable[..., Any]) -> list[Tensor]:
    """Return x and m as the loop marks them, x by way of a list of images if it comes as one."""
    x, m = (t.clone() for t in data()[:2])
    if program.listed:
        images = [row.reshape(1, 2, 4) for row in x.clone()]
        x = torch.stack(watch(images, unbatched=True) if program.watched[0] else images).reshape(SIZE)
    elif program.watched[0]:
        x = watch(x)
    return [x, watch(m) if program.watched[1] else m]


def train(
    program: Program,
    watch: Callable[..., Any] = lambda x, **_: x,
    paused: Callable[[], AbstractContextManager] = nullcontext,
    done: list[int] | None = None,
) -> list[Model]:
    """Run the loop as written, with ``watch`` where it marks its data."""
    nets = [model(i) for i in range(program.models)]
    optimizers = [torch.optim.SGD(net.parameters(), RATE) for net in nets]
    for _ in range(program.steps):
        for net, optimizer in zip(nets, optimizers, strict=True):
            loop, y = Gradients(program, net), data()[2]
            optimizer.zero_grad()
            loop.before_forward()
            losses = Run(net).losses(program, *entered(program, watch), y)
            loop.after_forward()
            loop.differentiate(loop.roots(added(losses, penalise(program, net, paused))))
            loop.step(optimizer)
            if done is not None:
                done.append(1)
    return nets


class Twin:
    """The same loop with the objective by hand: x moves, and all that follows from it; constants stay."""

    def __init__(self, program: Program) -> None:
        self.program, self.nets = program, [model(i) for i in range(program.models)]
        self.blurred = False
        self._turn(self.nets[0])

    def _turn(self, net: Model) -> None:
        self.net, self.loop = net, Gradients(self.program, net)

    def inputs(self) -> list[list[int]]:
        """Return, for each root, the places of the values that are x.

        They are those watched; else those a module that the root depends on was given as plain tensors.
        """
        (x, m, y), state = data(), torch.get_rng_state()
        net = copy.deepcopy(self.net)
        Gradients(self.program, net).before_forward()
        values: list[Tensor] = []
        run = Run(net, lambda place, value: values.append(value) or value, given=[])
        roots = self.loop.roots(run.losses(self.program, x, m, y))
        torch.set_rng_state(state)
        if any(self.program.watched):
            return [[place for place, watched in enumerate(self.program.watched) if watched]] * len(roots)
        place_of = {id(value): place for place, value in reversed(list(enumerate(values)))}
        return [[place_of[id(t)] for t, leaf in run.given if depends(root, leaf)] for root in roots]

    def train(self) -> list[Model] | None:
        """Return the trained weights, or None where there is no x."""
        places, (_, _, y) = self.inputs(), data()
        if not all(places):
            return None
        optimizers = [torch.optim.SGD(net.parameters(), RATE) for net in self.nets]
        for step in range(self.program.steps):
            for net, optimizer in zip(self.nets, optimizers, strict=True):
                self._turn(net)
                self._step(step, places, y, optimizer)
        return self.nets

    def _step(self, number: int, places: list[list[int]], y: Tensor, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        self.loop.before_forward()
        start, state = torch.get_rng_state(), self._state()
        objectives = []
        for i, own in enumerate(places):
            torch.set_rng_state(start)
            self._restore(state)
            objectives.append(self._objective(i, own, y, start, number))
        self.loop.after_forward()
        penalty = penalise(self.program, self.net, nullcontext)
        self.loop.differentiate(added(objectives, penalty))
        self.loop.step(optimizer)

    def _objective(self, index: int, places: list[int], y: Tensor, start: Tensor, number: int) -> Tensor:
        x, m, _ = data()
        leaves: dict[int, Tensor] = {}

        def enter(place: int, value: Tensor) -> Tensor:
            if place not in places or value.requires_grad:
                return value
            leaves[place] = value.detach().clone().requires_grad_()
            return leaves[place]

        calls = self.net.tuned.calls
        first = Run(self.net, enter)
        loss = self.loop.roots(first.losses(self.program, x.clone(), m.clone(), y))[index]
        if number % self.program.every:
            return loss
        after, state = torch.get_rng_state(), self._state()
        h = H * min(1.0, (number + 1) / self.program.ramp) if self.program.ramp else H
        moved = self._moved(loss, leaves, h)
        torch.set_rng_state(start)
        self.net.tuned.calls = calls  # each call is made again as it was
        again = Run(self.net, lambda place, value: moved.get(place, value), first.recorded)
        displaced = self.loop.roots(again.losses(self.program, x.clone(), m.clone(), y))[index]
        self.blurred |= first.blurred or again.blurred
        self._restore(state)
        torch.set_rng_state(after)
        return loss + self.program.weight * (displaced - loss).abs()

    def _moved(self, loss: Tensor, leaves: dict[int, Tensor], h: float) -> dict[int, Tensor]:
        grads = torch.autograd.grad(loss, list(leaves.values()), retain_graph=True, allow_unused=True)
        moved = {}
        for (place, leaf), g in zip(leaves.items(), grads, strict=True):
            g = torch.zeros_like(leaf) if g is None else g
            norms = g.norm(dim=1)
            # where the gradient is rounding error, so is the direction of z
            self.blurred |= bool(((norms > 0) & (norms < BLUR)).any())
            moved[place] = leaf.detach() + h * g / g.norm(dim=1, keepdim=True).clamp_min(1e-16)
        return moved

    def _state(self) -> list:
        buffers = [(b, b.clone()) for b in self.net.buffers()]
        keeps = self.net.keeps
        return [buffers, (keeps.count, list(keeps.log), getattr(keeps, "features", None)), self.net.tuned.calls]

    def _restore(self, state: list) -> None:
        for buffer, saved in state[0]:
            buffer.data.copy_(saved)
        self.net.tuned.calls = state[2]
        self.net.keeps.count, log, features = state[1]
        self.net.keeps.log[:] = log
        if features is not None:
            self.net.keeps.features = features


def depends(root: Tensor, leaf: Tensor) -> bool:
    """Return whether ``root`` was computed from ``leaf``."""
    return torch.autograd.grad(root, leaf, retain_graph=True, allow_unused=True)[0] is not None
