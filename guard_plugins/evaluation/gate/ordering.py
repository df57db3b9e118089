"""Gate items that follow from a protocol's results alone: what cannot be, and what must not be."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from guard_plugins.artifacts.formatting import percent, radius
from guard_plugins.artifacts.report import GateItem
from guard_plugins.evaluation.gate.item import judged, not_run

if TYPE_CHECKING:
    from guard_plugins.evaluation.accuracy import AttackResult

CHAIN: Final = ("fgsm", "pgd-20", "pgd-100", "autoattack")
"""Labels of ever stronger attacks."""

WHITE_BOX: Final = ("autoattack", "apgd-t", "apgd-ce", "pgd-100", "pgd-20")
"""Labels of attacks that see gradients, strongest first."""


def never_above_clean(clean: float, results: Sequence[AttackResult]) -> GateItem:
    """Check that no accuracy under attack exceeds the clean accuracy on the same images.

    Args:
        clean: Clean accuracy as a share.
        results: Results of the protocol.
    """
    name = "accuracy under attack never above clean"
    if not results:
        return not_run(name, "no attack was run")
    worst = max(results, key=lambda result: result.accuracy)
    return judged(
        name,
        good=worst.accuracy <= clean + 1e-9,
        figure=f"highest {percent(worst.accuracy)} ({worst.attack}), clean {percent(clean)}",
        value=worst.accuracy - clean,
        suggests="the two numbers were not measured on the same images and model: do not publish either",
    )


def clean_above_chance(clean: float, *, classes: int, images: int) -> GateItem:
    """Warn where the clean accuracy is not above chance with 95 % confidence (normal, one-sided): nothing to defend.

    Args:
        clean: Clean accuracy as a share.
        classes: Number of classes.
        images: Number of images it was measured on.
    """
    chance = 1 / classes
    return judged(
        "clean accuracy above chance",
        good=clean > chance + 1.645 * math.sqrt(chance * (1 - chance) / images),
        figure=f"clean {percent(clean)}, chance {percent(chance)}",
        value=clean - chance,
        suggests="the model learned next to nothing: what an attack leaves of that is no robustness",
        otherwise="warning",
    )


def stronger_is_lower(results: Sequence[AttackResult], *, tolerance: float = 0.005) -> GateItem:
    """Check FGSM ≥ PGD-20 ≥ PGD-100 ≥ AutoAttack at every radius where at least two of them ran."""
    name = "FGSM ≥ PGD-20 ≥ PGD-100 ≥ AutoAttack"
    gaps = []
    for eps, known in _by_radius(results).items():
        chain = [known[label] for label in CHAIN if label in known]
        for weak, strong in itertools.pairwise(chain):
            allowed = max(tolerance, 1.5 / strong.images)
            gaps.append((strong.accuracy - weak.accuracy - allowed, strong, weak, eps))
    if not gaps:
        return not_run(name, "no two of these attacks ran at the same radius")
    excess, strong, weak, eps = max(gaps, key=lambda gap: gap[0])
    return judged(
        name,
        good=excess <= 0,
        figure=f"closest to a violation: {strong.attack} {percent(strong.accuracy)} after {weak.attack} "
        f"{percent(weak.accuracy)} at {radius(eps)}",
        value=strong.accuracy - weak.accuracy,
        suggests="the gradients mislead the stronger attack (masking), or it was given too few steps",
    )


def square_not_below_white_box(results: Sequence[AttackResult], *, tolerance: float = 0.005) -> GateItem:
    """Check that the Square attack, which sees no gradient, breaks hardly anything that white-box attacks left.

    Compared image by image, at every radius where both ran; inside AutoAttack the parts are compared in order.
    """
    name = "Square not below white-box"
    found = []
    for eps, known in _by_radius(results).items():
        square = next((result for label, result in known.items() if label.startswith("square")), None)
        white = next((known[label] for label in WHITE_BOX if label in known), None)
        if square is not None and white is not None:
            only = float((white.robust & ~square.robust).float().mean())
            found.append((only, eps, white.attack, white.images))
        if "autoattack" in known:
            after = dict(known["autoattack"].parts)
            gain = after["fab-t"] - known["autoattack"].accuracy
            found.append((gain, eps, "AutoAttack's first three parts", known["autoattack"].images))
    if not found:
        return not_run(name, "Square and a white-box attack did not run at the same radius")
    worst, eps, white_name, images = max(found, key=lambda entry: entry[0])
    return judged(
        name,
        good=worst <= max(tolerance, 1.5 / images),
        figure=f"breaks {percent(worst)} % of the images that {white_name} did not, at {radius(eps)}",
        value=worst,
        suggests="gradients are masked: white-box numbers are too high, report the lower one and find the cause",
    )


def curve_is_monotone(results: Sequence[AttackResult], *, tolerance: float = 0.005) -> GateItem:
    """Check that accuracy does not rise with the radius, for each attack that ran at several."""
    name = "accuracy falls as ε grows"
    rises = []
    for label in {result.attack for result in results}:
        curve = sorted((result for result in results if result.attack == label), key=lambda result: result.eps)
        for near, far in itertools.pairwise(curve):
            rises.append((far.accuracy - near.accuracy, near, far))
    if not rises:
        return not_run(name, "no attack ran at two radii")
    rise, near, far = max(rises, key=lambda entry: entry[0])
    return judged(
        name,
        good=rise <= max(tolerance, 1.5 / far.images),
        figure=f"largest change {100 * rise:+.1f} points ({near.attack}, {radius(near.eps)} to {radius(far.eps)})",
        value=rise,
        suggests="a larger ball contains the smaller one: the attack fails at large radii, use more steps or restarts",
    )


def _by_radius(results: Sequence[AttackResult]) -> Mapping[float, Mapping[str, AttackResult]]:
    radii: dict[float, dict[str, AttackResult]] = {}
    for result in results:
        if result.norm == "Linf" and result.eps:
            radii.setdefault(result.eps, {})[result.attack] = result
    return radii
