"""Generated loops under the hook against the objective by hand: ``python -m tests.curvature.generate --examples 5000``.

Each loop must train what its twin trains, or be refused at its first step.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from torch import Tensor

from guard_plugins.curvature import CurvatureHook
from guard_plugins.errors import HookError
from tests.curvature.grammar import LOSSES, OPERATIONS, SIZE, Model, Program, Run

H, RATE, TOLERANCE = 0.5, 0.1, 1e-6

_index = st.one_of(st.integers(-2, -1), st.integers(0, 7))  # counted modulo what there is; negative: the latest
_one = st.tuples(st.sampled_from(sorted(OPERATIONS)), _index, _index)
_module = st.tuples(st.sampled_from(["linear", "normed", "skip", "keeps", "attention"]), _index, _index)
_losses = st.lists(st.tuples(st.sampled_from(sorted(LOSSES)), _index, _index), min_size=1, max_size=2)


@st.composite
def programs(draw: Callable) -> Program:
    """Draw a loop."""
    operations = draw(st.lists(st.one_of(_module, _one, _one), min_size=1, max_size=6))
    return Program(
        operations=tuple(operations),
        losses=tuple(draw(_losses)),
        watched=draw(st.sampled_from([(True, True), (True, False), (False, False)])),
        backward=draw(st.sampled_from(["summed", "apart", "autograd.grad", "autograd.backward"])),
        switched=draw(st.sampled_from(["no", "no", "no", "frozen after forward", "unfrozen after forward"])),
        weight=draw(st.sampled_from([1.0, 2.0, 0.5])),
        steps=draw(st.integers(1, 2)),
        penalty=draw(st.booleans()),
    )


def data() -> tuple[Tensor, Tensor, Tensor]:
    """Return x, m and labels."""
    g = torch.Generator().manual_seed(5)
    x, m = (torch.randn(SIZE, dtype=torch.float64, generator=g) for _ in range(2))
    return x, m, torch.randint(0, 8, SIZE[:1], generator=g)


def model() -> Model:
    """Return the freshly seeded weights."""
    torch.manual_seed(2)
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

    def backward(self, losses: Sequence[Tensor]) -> None:
        """Differentiate as the program says."""
        roots = list(losses) if self.program.backward == "apart" else [sum(losses[1:], start=losses[0])]
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


def train(program: Program, watch: Callable[[Tensor], Tensor] = lambda x: x, done: list[int] | None = None) -> Model:
    """Run the loop as written, with ``watch`` where it marks its data."""
    net = model()
    loop, (x, m, y) = Gradients(program, net), data()
    optimizer = torch.optim.SGD(net.parameters(), RATE)
    for _ in range(program.steps):
        optimizer.zero_grad()
        loop.before_forward()
        given = [watch(t.clone()) if w else t.clone() for t, w in zip((x, m), program.watched, strict=True)]
        losses = Run(net).losses(program, *given, y)
        loop.after_forward()
        loop.backward(losses)
        loop.step(optimizer)
        if done is not None:
            done.append(1)
    return net


class Twin:
    """The same loop with the objective by hand: x moves, and all that follows from it; constants stay."""

    def __init__(self, program: Program) -> None:
        self.program, self.net = program, model()
        self.loop = Gradients(program, self.net)

    def inputs(self) -> list[int]:
        """Return the places of the values that are x: those watched, else those a trainable module is given plain."""
        if any(self.program.watched):
            return [place for place, watched in enumerate(self.program.watched) if watched]
        run, (x, m, _), state = Run(copy.deepcopy(self.net)), data(), torch.get_rng_state()
        values = run.values(self.program, x, m)
        torch.set_rng_state(state)
        given = {id(t) for t in run.given if not t.requires_grad}
        first: dict[int, int] = {}
        for place, value in enumerate(values):
            first.setdefault(id(value), place)
        return [place for key, place in first.items() if key in given]

    def train(self) -> Model | None:
        """Return the trained weights, or None where there is no x."""
        places, (_, _, y) = self.inputs(), data()
        if not places:
            return None
        optimizer = torch.optim.SGD(self.net.parameters(), RATE)
        for _ in range(self.program.steps):
            optimizer.zero_grad()
            self._step(places, y)
            self.loop.step(optimizer)
        return self.net

    def _step(self, places: list[int], y: Tensor) -> None:
        x, m, _ = data()
        leaves: dict[int, Tensor] = {}

        def enter(place: int, value: Tensor) -> Tensor:
            if place not in places or value.requires_grad:
                return value
            leaves[place] = value.detach().clone().requires_grad_()
            return leaves[place]

        self.loop.before_forward()
        start = torch.get_rng_state()
        first = Run(self.net, enter)
        losses = first.losses(self.program, x.clone(), m.clone(), y)
        after, state = torch.get_rng_state(), self._state()
        if self.program.backward != "apart":
            losses = [sum(losses[1:], start=losses[0])]
        objectives = []
        for i, loss in enumerate(losses):
            moved = self._moved(loss, leaves)
            torch.set_rng_state(start)
            again = Run(self.net, lambda p, v, moved=moved: moved.get(p, v), first.recorded)
            displaced = again.losses(self.program, x.clone(), m.clone(), y)
            there = sum(displaced[1:], start=displaced[0]) if len(losses) < len(displaced) else displaced[i]
            self._restore(state)
            objectives.append(loss + self.program.weight * (there - loss).abs())
        torch.set_rng_state(after)
        self.loop.after_forward()
        self.loop.backward(objectives)

    def _moved(self, loss: Tensor, leaves: dict[int, Tensor]) -> dict[int, Tensor]:
        grads = torch.autograd.grad(loss, list(leaves.values()), retain_graph=True, allow_unused=True)
        moved = {}
        for (place, leaf), g in zip(leaves.items(), grads, strict=True):
            g = torch.zeros_like(leaf) if g is None else g
            moved[place] = leaf.detach() + H * g / g.norm(dim=1, keepdim=True).clamp_min(1e-16)
        return moved

    def _state(self) -> list[tuple]:
        buffers = [(b, b.clone()) for b in self.net.buffers()]
        keeps = self.net.keeps
        return [buffers, (keeps.count, list(keeps.log), getattr(keeps, "features", None))]

    def _restore(self, state: list[tuple]) -> None:
        for buffer, saved in state[0]:
            buffer.data.copy_(saved)
        self.net.keeps.count, log, features = state[1]
        self.net.keeps.log[:] = log
        if features is not None:
            self.net.keeps.features = features


@dataclass
class Tally:
    """What became of the loops.

    Attributes:
        trained: How many trained what the twin trains.
        vain: How many do not train at all, with or without a hook.
        refused: Why the others were refused.
        faults: Those that trained something else, or failed otherwise.
    """

    trained: int = 0
    vain: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    faults: list[tuple[Program, str]] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{self.trained} trained, {sum(self.refused.values())} refused, {self.vain} that do not train anyway, "
                 f"{len(self.faults)} faults"]  # fmt: skip
        lines += [f"  refused {n}: {why}" for why, n in self.refused.most_common()]
        return "\n".join(lines + [f"  fault: {why}\n    {program}" for program, why in self.faults[:10]])


def judge(program: Program, tally: Tally) -> None:
    """Run a loop and its twin, and count what became of it."""
    if not trains(program):
        tally.vain += 1
        return
    hook, done = CurvatureHook(h=H, weight=program.weight), []
    try:
        with hook:
            ours = train(program, hook.watch, done)
    except HookError as error:
        if done:
            tally.faults.append((program, f"refused at step {len(done) + 1}: {error.what}"))
        else:
            tally.refused[error.what] += 1
        return
    except Exception as error:
        tally.faults.append((program, f"{type(error).__name__}: {error}"))
        return
    twin = Twin(program).train()
    gap = float("inf") if twin is None else distance(ours, twin)
    if gap <= TOLERANCE:
        tally.trained += 1
    else:
        tally.faults.append((program, f"gap {gap:.2g}"))


def trains(program: Program) -> bool:
    """Return whether the loop changes a weight without any hook.

    In others nothing requires a gradient, or a graph is differentiated twice, which PyTorch refuses.
    """
    try:
        after = train(program)
    except RuntimeError:
        return False
    return any(not torch.equal(a, b) for a, b in zip(after.parameters(), model().parameters(), strict=True))


def distance(ours: Model, twin: Model) -> float:
    """Return the largest difference of weights, buffers and attributes, by the size of the largest change."""
    start, theirs = model().state_dict(), twin.state_dict()
    moved = max(float((v - start[k]).abs().max()) for k, v in theirs.items()) + 1e-12
    gaps = [float((v - theirs[k]).abs().max()) for k, v in ours.state_dict().items()]
    same = ours.keeps.count == twin.keeps.count and ours.keeps.log == twin.keeps.log
    return max(gaps) / moved if same else float("inf")


def generate(examples: int, *, first: int = 0, until_fault: bool = False) -> Tally:
    """Judge so many generated loops; the same numbers give the same loops.

    Args:
        examples: How many.
        first: The seed.
        until_fault: Stop at the first fault.
    """
    tally = Tally()

    @seed(first)
    @settings(
        max_examples=examples, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(programs())
    def judged(program: Program) -> None:
        if not (until_fault and tally.faults):
            judge(program, tally)

    judged()
    return tally


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge loops and print what became of them."""
    parser = argparse.ArgumentParser(prog="python -m tests.curvature.generate", description=__doc__)
    parser.add_argument("--examples", type=int, default=5000, help="how many loops")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other loops")
    options = parser.parse_args(arguments)
    tally = generate(options.examples, first=options.seed)
    sys.stdout.write(f"{tally}\n")
    return 1 if tally.faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
