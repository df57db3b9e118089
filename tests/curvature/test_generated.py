"""Generated loops train what their twins train, or are refused at step 1; without its checks the hook is found out."""

from __future__ import annotations

import pytest

from guard_plugins.curvature.replay import checks
from guard_plugins.curvature.strays import Strays
from tests.curvature.generate import Tally, generate, judge
from tests.curvature.grammar import LOSSES, OPERATIONS, Program


def _sound(tally: Tally) -> None:
    assert not tally.faults, str(tally)
    assert tally.trained >= sum(tally.refused.values()), str(tally)


def test_a_few_generated_loops() -> None:
    tally = generate(15)
    assert not tally.faults, str(tally)


@pytest.mark.slow
def test_some_hundred_generated_loops() -> None:
    tally = generate(600, first=1)
    _sound(tally)
    assert len(tally.refused) >= 4, str(tally)


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_of_the_grammar(name: str) -> None:
    """Around a module, after it and before it; watched and not."""
    tally = Tally()
    for watched in ((True, False), (False, False)):
        for operations in (
            (("linear", 0, 0), (name, 2, 2)),
            ((name, 0, 0), ("linear", 2, 2)),
            (("linear", 0, 0), (name, 2, 0), ("skip", 3, 3)),
            (("linear", 0, 0), (name, 0, 2), ("residual", 2, 3)),
        ):
            judge(Program(operations, (("cross entropy", 0, 0),), watched), tally)
    assert not tally.faults, str(tally)


@pytest.mark.parametrize("backward", ["summed", "apart", "autograd.grad", "autograd.backward"])
@pytest.mark.parametrize("name", LOSSES)
def test_each_loss_of_the_grammar(name: str, backward: str) -> None:
    tally = Tally()
    for weight in (1.0, 2.0):
        for other in ("cross entropy", "mean square"):
            operations = (("normed", 0, 0), ("linear", 2, 2))
            program = Program(
                operations, ((name, 0, 2), (other, 1, 0)), (True, False), backward, weight=weight, steps=2
            )
            judge(program, tally)
    assert not tally.faults, str(tally)
    assert tally.trained, str(tally)


@pytest.mark.parametrize("switched", ["frozen after forward", "unfrozen after forward"])
@pytest.mark.parametrize("operations", [
    (("linear", 0, 0), ("skip", 2, 2)),
    (("normed", 0, 0), ("linear", 2, 2), ("residual", 2, 3)),
    (("skip", 0, 0), ("linear", 2, 2), ("linear", 3, 3)),
])  # fmt: skip
def test_flags_switched_between_forward_and_backward(operations: tuple, switched: str) -> None:
    tally = Tally()
    for weight in (1.0, 2.0, 0.5):
        for steps in (1, 2):
            losses = (("cross entropy", 0, 0),)
            judge(Program(operations, losses, (True, False), switched=switched, weight=weight, steps=steps), tally)
    assert not tally.faults, str(tally)
    assert tally.trained == 6


@pytest.mark.slow
def test_without_the_search_for_second_routes_the_generator_finds_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "reject_second_routes", lambda *args, **kwargs: None)
    assert any("gap" in why for _, why in generate(1500, first=1, until_fault=True).faults)


def test_without_the_memory_of_unseen_backward_calls_a_generated_loop_is_a_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first that `generate(1500, first=1)` finds, with one version of hypothesis; others draw other loops."""
    found = Program(
        operations=(
            ("skip", 4, 2), ("linear", -1, 2), ("gallery", 6, -1), ("keeps", -2, -1), ("normed", -2, 3),
            ("custom", -1, -1),
        ),
        losses=(("cross entropy", 3, -2), ("label smoothing", -1, 3)),
        watched=(False, False), backward="apart", weight=2.0, steps=3, models=2, ramp=2,
    )  # fmt: skip
    sound, tally = Tally(), Tally()
    judge(found, sound)
    assert not sound.faults
    assert sum(sound.refused.values()) == 1
    monkeypatch.setattr(Strays, "among", lambda self, weights: [])
    judge(found, tally)
    assert ["gap" in why for _, why in tally.faults] == [True]
