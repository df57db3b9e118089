"""Gate items that need the results of a protocol only: their order."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from guard_plugins.artifacts.formatting import percent, points, radius
from guard_plugins.artifacts.report import GateItem
from guard_plugins.evaluation.gate.item import judged, not_run

if TYPE_CHECKING:
    from guard_plugins.evaluation.accuracy import AttackResult

ABOVE_CHANCE: Final = "clean accuracy above chance"
"""The item that says whether a model learned anything."""


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
    # Radius 0 is the clean accuracy once more: it counts, but says little.
    shown = max([result for result in results if result.eps] or [worst], key=lambda result: result.accuracy)
    return judged(
        name,
        good=worst.accuracy <= clean + 1e-9,
        figure=f"clean {percent(clean)} %, highest under attack {percent(shown.accuracy)} % ({shown.attack} at "
        f"{radius(shown.eps, shown.norm)}) on {shown.images} images",
        value=worst.accuracy - clean,
        finding=f"accuracy under {worst.attack} is {points(worst.accuracy - clean)} points above clean accuracy at "
        f"{radius(worst.eps, worst.norm)} on {worst.images} images",
        suggests="the two numbers were not measured on the same images and the same model: publish neither",
    )


def clean_above_chance(clean: float, *, classes: int, images: int) -> GateItem:
    """Warn if the clean accuracy is not above chance with 95 % confidence (normal, one-sided).

    Args:
        clean: Clean accuracy as a share.
        classes: Number of classes.
        images: Number of images it was measured on.
    """
    chance = 1 / classes
    return judged(
        ABOVE_CHANCE,
        good=clean > chance + 1.645 * math.sqrt(chance * (1 - chance) / images),
        figure=f"clean {percent(clean)} % of {images} images, chance {percent(chance)} %",
        value=clean - chance,
        suggests="the model learned next to nothing, so there is no robustness to measure",
        otherwise="warning",
    )


def stronger_is_lower(results: Sequence[AttackResult], *, tolerance: float = 0.005) -> GateItem:
    """Check that no stronger attack leaves more images correct, at every radius where at least two of them ran.

    Attacks say themselves how strong they are; those that ship rank as in the name of the item.

    Args:
        results: Results of the protocol.
        tolerance: By how much the accuracy under the stronger attack may be higher.
    """
    name = "FGSM ≥ PGD-20 ≥ PGD-100 ≥ AutoAttack"
    gaps = []
    for eps, known in _by_radius(results).items():
        for weak, strong in itertools.pairwise(_ranked(known)):
            allowed = max(tolerance, 2.5 / strong.images)
            gaps.append((strong.accuracy - weak.accuracy - allowed, strong, weak, eps))
    if not gaps:
        return not_run(name, "no two of these attacks ran at the same radius")
    excess, strong, weak, eps = max(gaps, key=lambda gap: gap[0])
    return judged(
        name,
        good=excess <= 0,
        figure=f"closest pair: the stronger {strong.attack} leaves {percent(strong.accuracy)} %, the weaker "
        f"{weak.attack} {percent(weak.accuracy)} % at {radius(eps)} on {strong.images} images",
        value=strong.accuracy - weak.accuracy,
        finding=f"{strong.attack} is too weak at {radius(eps)}: {points(strong.accuracy - weak.accuracy)} points above "
        f"{weak.attack} on {strong.images} images",
        suggests="gradients are masked and mislead the stronger attack, or it had too few steps",
    )


def square_not_below_white_box(results: Sequence[AttackResult], *, tolerance: float = 0.005) -> GateItem:
    """Check that black-box attacks, such as Square, break hardly any image that white-box attacks left.

    The comparison is with the strongest white-box attack, image by image, at every radius where both ran. Of an attack
    that has black-box parts, such as AutoAttack, these are compared with its white-box parts.

    Args:
        results: Results of the protocol.
        tolerance: Share of the images that black-box attacks may break in addition.
    """
    name = "Square not below white-box"
    found = []
    for eps, known in _by_radius(results).items():
        for white in _ranked(known)[-1:]:
            for black in (result for result in known if result.black_box):
                only = float((white.robust & ~black.robust).float().mean())
                found.append((only, eps, white.attack, white.images))
        for whole in known:
            if 0 < whole.white_box_parts < len(whole.parts):
                gain = whole.parts[whole.white_box_parts - 1][1] - whole.accuracy
                found.append((gain, eps, f"the first {whole.white_box_parts} parts of {whole.attack}", whole.images))
    if not found:
        return not_run(name, "no black-box and white-box attack ran at the same radius")
    worst, eps, white_name, images = max(found, key=lambda entry: entry[0])
    return judged(
        name,
        good=worst <= max(tolerance, 2.5 / images),
        figure=f"{percent(worst)} % of {images} images resist {white_name} and break without gradients, at "
        f"{radius(eps)}",
        value=worst,
        finding=f"{white_name} is too weak at {radius(eps)}: without gradients {points(worst)} points more break on "
        f"{images} images",
        suggests="gradients are masked and the white-box numbers are too high: report the lower one and find the cause",
    )


def curve_is_monotone(results: Sequence[AttackResult], *, tolerance: float = 0.005) -> GateItem:
    """Check that accuracy does not rise with the radius, for each attack that ran at several.

    Args:
        results: Results of the protocol.
        tolerance: By how much it may rise from one radius to the next.
    """
    name = "accuracy falls as ε grows"
    rises = []
    for label in {result.attack for result in results}:
        curve = sorted((result for result in results if result.attack == label), key=lambda result: result.eps)
        for near, far in itertools.pairwise(curve):
            rises.append((far.accuracy - near.accuracy, near, far))
    if not rises:
        return not_run(name, "no attack ran at two radii")
    rise, near, far = max(rises, key=lambda entry: entry[0])
    found = f"rises by up to {points(rise)} points" if rise > 0 else f"never rises; least fall {points(-rise)} points"
    return judged(
        name,
        good=rise <= max(tolerance, 2.5 / far.images),
        figure=f"{found} ({near.attack}, {radius(near.eps)} to {radius(far.eps)}, {far.images} images)",
        value=rise,
        finding=f"{far.attack} is too weak at {radius(far.eps)}: {points(rise)} points above {radius(near.eps)} on "
        f"{far.images} images",
        suggests="a larger ball contains the smaller one, so the attack fails: use more steps or restarts",
    )


def _by_radius(results: Sequence[AttackResult]) -> Mapping[float, Sequence[AttackResult]]:
    radii: dict[float, list[AttackResult]] = {}
    for result in results:
        if result.norm == "Linf" and result.eps:
            radii.setdefault(result.eps, []).append(result)
    return radii


def _ranked(results: Sequence[AttackResult]) -> list[AttackResult]:
    """Return the results of white-box attacks that have a strength, the strongest last."""
    ranked = [(result.strength, result) for result in results if result.strength is not None and not result.black_box]
    return [result for _, result in sorted(ranked, key=lambda pair: pair[0])]
