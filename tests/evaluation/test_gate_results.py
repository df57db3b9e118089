"""Gate items that need results only: made-up numbers, one violated rule at a time."""

from __future__ import annotations

import math

import pytest
import torch

from guard_plugins.attacks.autoattack import AutoAttack
from guard_plugins.attacks.fgsm import FGSM
from guard_plugins.attacks.margin import MarginPGD
from guard_plugins.attacks.mim import MIM
from guard_plugins.attacks.pgd import PGD
from guard_plugins.attacks.square import Square
from guard_plugins.evaluation.accuracy import AttackResult, attack_accuracy
from guard_plugins.evaluation.curvature import Curvature
from guard_plugins.evaluation.gate.comparison import clean_is_kept, gains_agree, h_matters
from guard_plugins.evaluation.gate.examine import review
from guard_plugins.evaluation.gate.ordering import (
    clean_above_chance,
    curve_is_monotone,
    never_above_clean,
    square_not_below_white_box,
    stronger_is_lower,
)
from guard_plugins.runtime.seeds import Seeds

N = 1000


def result(
    attack: str, accuracy: float, *, eps: float = 8 / 255, parts: tuple[tuple[str, float], ...] = (), shift: int = 0
) -> AttackResult:
    robust = torch.zeros(N, dtype=torch.bool)
    robust[shift : shift + round(accuracy * N)] = True
    strength = {"fgsm": 1, "pgd-20": 20, "pgd-100": 100, "autoattack": math.inf}.get(attack)
    square = attack.startswith("square")
    return AttackResult(attack, "Linf", eps, robust, N, parts, strength, square, max(len(parts) - 1, 0))


def test_the_published_dc_row_would_have_failed() -> None:
    """CIFAR-10 DC with GUARD, IPC 1, as printed: clean 30.95, PGD-100 46.88, Square 48.56."""
    item = never_above_clean(0.3095, [result("pgd-100", 0.4688), result("autoattack", 0.1499)])
    assert item.verdict == "failed"
    assert item.figure == f"clean 30.9 %, highest under attack 46.9 % (pgd-100 at 8/255) on {N} images"
    assert never_above_clean(0.3095, [result("pgd-100", 0.3)]).verdict == "passed"
    assert never_above_clean(0.3, []).verdict == "not run"
    again = never_above_clean(0.5, [result("pgd-20", 0.5, eps=0), result("pgd-20", 0.2)])
    assert (again.verdict, again.figure.split(",")[1]) == (
        "passed",
        f" highest under attack 20.0 % (pgd-20 at 8/255) on {N} images",
    )
    assert never_above_clean(0.3, [result("pgd-20", 0.4, eps=0), result("pgd-20", 0.2)]).verdict == "failed"


@pytest.mark.parametrize(
    ("clean", "images", "verdict"), [(0.10, 1000, "warning"), (0.12, 1000, "passed"), (0.12, 50, "warning")]
)
def test_a_model_at_chance_is_warned_of(clean: float, images: int, verdict: str) -> None:
    item = clean_above_chance(clean, classes=10, images=images)
    assert (item.verdict, item.figure) == (verdict, f"clean {100 * clean:.1f} % of {images} images, chance 10.0 %")


def test_the_published_imagenette_row_would_have_failed() -> None:
    """ImageNette IPC 50 with GUARD, as printed: AutoAttack 42.47 above PGD-100 41.42."""
    item = stronger_is_lower([result("pgd-100", 0.414), result("autoattack", 0.425)])
    assert item.verdict == "failed"
    assert "the stronger autoattack leaves 42.5 %, the weaker pgd-100 41.4 % at 8/255" in item.figure


def test_order_holds_within_the_tolerance_and_per_radius() -> None:
    chain = [result("fgsm", 0.5), result("pgd-20", 0.4), result("pgd-100", 0.404), result("autoattack", 0.35)]
    assert stronger_is_lower(chain).verdict == "passed"
    assert stronger_is_lower([result("pgd-20", 0.2), result("pgd-100", 0.5, eps=1 / 255)]).verdict == "not run"


def test_square_is_compared_image_by_image() -> None:
    white, elsewhere = result("pgd-100", 0.3), result("square-5000", 0.3, shift=100)
    item = square_not_below_white_box([white, elsewhere])
    assert item.verdict == "failed"
    assert item.value == pytest.approx(0.1)
    assert square_not_below_white_box([white, result("square-5000", 0.6)]).verdict == "passed"
    assert square_not_below_white_box([white]).verdict == "not run"


@pytest.mark.parametrize(("last", "verdict"), [(0.30, "passed"), (0.28, "failed")])
def test_square_inside_autoattack_must_find_nothing_more(last: float, verdict: str) -> None:
    parts = (("apgd-ce", 0.32), ("apgd-t", 0.30), ("fab-t", 0.30), ("square-5000", last))
    assert square_not_below_white_box([result("autoattack", last, parts=parts)]).verdict == verdict


def test_the_attacks_that_ship_declare_their_part_in_the_gate() -> None:
    ranked = [FGSM(), PGD(steps=20), PGD(steps=100), AutoAttack()]
    assert [attack.strength for attack in ranked] == [1, 20, 100, math.inf]
    assert {attack.strength for attack in (MarginPGD(), PGD(restarts=5), MIM(), Square())} == {None}
    assert [attack.label for attack in (*ranked, Square()) if attack.black_box] == ["square-5000"]


def test_a_result_carries_what_its_attack_declares() -> None:
    class Lucky(FGSM):
        name, black_box = "lucky", True

        def parts(self) -> tuple[FGSM, ...]:
            return (FGSM(), Lucky())

    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    images, labels = torch.rand(6, 1, 2, 2, generator=torch.Generator().manual_seed(0)), torch.zeros(6).long()
    found = attack_accuracy(model, Lucky(), images, labels, eps=0.1, batch_size=6, seeds=Seeds(0))
    assert (found.strength, found.black_box, found.white_box_parts) == (1, True, 1)


def test_a_plugins_black_box_attack_is_compared_like_square() -> None:
    own = AttackResult("own", "Linf", 8 / 255, torch.zeros(N, dtype=torch.bool), N, (), None, True)
    item = square_not_below_white_box([result("fgsm", 0.6), result("pgd-20", 0.5), own])
    assert (item.verdict, item.value) == ("failed", 0.5)
    assert item.figure == f"50.0 % of {N} images resist pgd-20 and break without gradients, at 8/255"


def test_the_curve_must_fall() -> None:
    curve = [result("pgd-20", accuracy, eps=eps / 255) for eps, accuracy in ((0, 0.9), (1, 0.7), (2, 0.4), (4, 0.43))]
    item = curve_is_monotone(curve)
    assert item.verdict == "failed"
    assert item.figure == f"rises by up to 3 points (pgd-20, 2/255 to 4/255, {N} images)"
    falling = curve_is_monotone(curve[:3])
    assert falling.verdict == "passed"
    assert falling.figure == f"never rises; least fall 20 points (pgd-20, 0/255 to 1/255, {N} images)"
    level = curve_is_monotone([result("pgd-20", 0.0, eps=eps / 255) for eps in (16, 32)])
    assert level.figure == f"never rises; least fall 0 points (pgd-20, 16/255 to 32/255, {N} images)"
    assert curve_is_monotone(curve[:1]).verdict == "not run"


def test_a_review_without_results_runs_nothing() -> None:
    *order, chance = review(clean=0.5, results=[], classes=2, images=100)
    assert {item.verdict for item in order} == {"not run"}
    assert chance.verdict == "warning"  # half of two classes is a guess
    assert review(clean=0.9, results=[], classes=2, images=100)[-1].verdict == "passed"


def test_a_large_clean_drop_is_a_warning() -> None:
    item = clean_is_kept(0.5, 0.6)
    assert (item.verdict, item.figure) == ("warning", "clean accuracy 50.0 %, without the hook 60.0 %")
    assert clean_is_kept(0.62, 0.6).verdict == "passed"
    assert clean_is_kept(0.5, None).verdict == "not run"


def test_gains_that_differ_across_attacks_are_a_warning() -> None:
    before = [result("pgd-20", 0.1), result("square-5000", 0.4)]
    item = gains_agree([result("pgd-20", 0.5), result("square-5000", 0.45)], before)
    assert item.verdict == "warning"
    assert item.figure == "points gained over the run without the hook at 8/255: pgd-20 +40.0, square-5000 +5.0"
    assert gains_agree([result("pgd-20", 0.3), result("square-5000", 0.55)], before).verdict == "passed"
    assert gains_agree([result("pgd-20", 0.3)], before).verdict == "not run"


def test_an_h_too_small_to_matter_is_a_warning() -> None:
    def measured(rise: float) -> Curvature:
        one = torch.ones(4)
        return Curvature(0.1, one, rise * one, one, one, one)

    assert h_matters(measured(0.001)).verdict == "warning"
    assert h_matters(measured(0.3)).figure == "a step of length h = 0.1 takes the mean loss of 4 images from 1 to 1.3"
    assert h_matters(measured(0.3)).verdict == "passed"
    assert h_matters(None).verdict == "not run"
