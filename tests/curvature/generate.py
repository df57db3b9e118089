"""Generated loops under the hook against the objective by hand: ``python -m tests.curvature.generate --examples 5000``.

Each loop must train what its twin trains, or be refused at its first step.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from guard_plugins.curvature import CurvatureHook
from guard_plugins.errors import HookError
from tests.curvature.by_program import H, Twin, model, train
from tests.curvature.grammar import LOSSES, OPERATIONS, Model, Program

TOLERANCE = 1e-6

_index = st.one_of(st.integers(-2, -1), st.integers(0, 7))  # counted modulo what there is; negative: the latest
_one = st.tuples(st.sampled_from(sorted(OPERATIONS)), _index, _index)
_module = st.tuples(
    st.sampled_from(["linear", "normed", "skip", "keeps", "attention", "conditioned", "tuned", "gallery"]),
    _index,
    _index,
)
_losses = st.lists(st.tuples(st.sampled_from(sorted(LOSSES)), _index, _index), min_size=1, max_size=2)
_seldom = st.sampled_from([False, False, True, False])
_NO = ["no"] * 20  # at both ends, which Hypothesis prefers


@st.composite
def programs(draw: Callable) -> Program:
    """Draw a loop."""
    operations = draw(st.lists(_module, max_size=1))
    operations += draw(st.lists(st.one_of(_module, _one, _one), min_size=1, max_size=5))
    # one value that nobody can follow, for one of the losses at most
    operations += draw(st.sampled_from([[], [], [], [("custom", -1, -1)], [], [], []]))
    return Program(
        operations=tuple(operations),
        losses=tuple(draw(_losses)),
        watched=draw(st.sampled_from([(True, True), (True, False), (False, False)])),
        backward=draw(st.sampled_from(["summed", "apart", "autograd.grad", "autograd.backward"])),
        switched=draw(st.sampled_from(["no", "no", "no", "frozen after forward", "unfrozen after forward"])),
        weight=draw(st.sampled_from([1.0, 2.0, 0.5])),
        steps=draw(st.integers(1, 3)),
        penalty=draw(st.booleans()),
        listed=draw(_seldom),
        models=draw(st.sampled_from([1, 1, 2, 1])),
        every=draw(st.sampled_from([1, 1, 2, 1])),
        ramp=draw(st.sampled_from([0, 0, 2, 0])),
        gradient_penalty=draw(st.sampled_from([*_NO, "paused", "paused", "in the loss", "apart", *_NO])),
    )


@dataclass
class Tally:
    """What became of the loops.

    Attributes:
        trained: How many trained what the twin trains.
        vain: How many do not train without a hook either, or have an input gradient of rounding errors.
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
    hook, done = CurvatureHook(h=H, weight=program.weight, every=program.every, ramp=program.ramp), []
    try:
        with hook:
            ours = train(program, hook.watch, hook.paused, done)
    except HookError as error:
        if done:
            tally.faults.append((program, f"refused at step {len(done) + 1}: {error.what}"))
        else:
            tally.refused[error.what] += 1
        return
    except Exception as error:
        tally.faults.append((program, f"{type(error).__name__}: {error}"))
        return
    by_hand = Twin(program)
    twin = by_hand.train()
    if by_hand.blurred:
        tally.vain += 1
        return
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
    return any(not torch.equal(a, b) for a, b in zip(after[0].parameters(), model().parameters(), strict=True))


def distance(ours: Sequence[Model], twin: Sequence[Model]) -> float:
    """Return the largest difference of weights, buffers and attributes, by the size of the largest change."""
    return max(_distance(a, b, model(i)) for i, (a, b) in enumerate(zip(ours, twin, strict=True)))


def _distance(ours: Model, twin: Model, fresh: Model) -> float:
    start, theirs = fresh.state_dict(), twin.state_dict()
    moved = max(float((v - start[k]).abs().max()) for k, v in theirs.items()) + 1e-12
    gaps = [float((v - theirs[k]).abs().max()) for k, v in ours.state_dict().items()]
    kept = [(net.keeps.count, net.keeps.log, net.tuned.calls) for net in (ours, twin)]
    same = kept[0] == kept[1]
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
