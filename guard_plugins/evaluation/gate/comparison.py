"""Gate items that compare with a baseline: warnings about what a gain in robustness may have cost or may hide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from guard_plugins.artifacts.formatting import change, percent, radius
from guard_plugins.artifacts.report import GateItem
from guard_plugins.evaluation.gate.item import judged, not_run

if TYPE_CHECKING:
    from guard_plugins.evaluation.accuracy import AttackResult
    from guard_plugins.evaluation.curvature import Curvature


def clean_is_kept(clean: float, baseline: float | None, *, tolerance: float = 0.05) -> GateItem:
    """Warn of a large drop in clean accuracy against the same method without the hook.

    Args:
        clean: Clean accuracy as a share.
        baseline: The same without the hook, or None.
        tolerance: How much lower it may be.
    """
    name = "clean accuracy kept"
    if baseline is None:
        return not_run(name, "needs a run without the hook beside it: guard-report compares them")
    return judged(
        name,
        good=baseline - clean <= tolerance,
        figure=f"clean accuracy {percent(clean)} %, without the hook {percent(baseline)} %",
        value=baseline - clean,
        suggests="robustness cost clean accuracy: report both, and try a smaller h",
        otherwise="warning",
    )


def gains_agree(
    results: Sequence[AttackResult], baseline: Sequence[AttackResult], *, tolerance: float = 0.1
) -> GateItem:
    """Warn if the gain over the baseline depends on the attack.

    Args:
        results: Results of the model.
        baseline: Results of the same method without the hook.
        tolerance: How far the gains under two attacks at the same radius may be apart.
    """
    name = "gains agree across attacks"
    before = {(result.attack, result.eps): result.accuracy for result in baseline if result.eps}
    gains: dict[float, dict[str, float]] = {}
    for result in results:
        if result.norm == "Linf" and (result.attack, result.eps) in before:
            gain = result.accuracy - before[result.attack, result.eps]
            gains.setdefault(result.eps, {})[result.attack] = gain
    spreads = {eps: _spread(by_attack) for eps, by_attack in gains.items() if len(by_attack) > 1}
    if not spreads:
        return not_run(name, "needs two attacks at one radius, here and on a run without the hook")
    eps = max(spreads, key=lambda at: spreads[at])
    figure = ", ".join(f"{attack} {change(gain)}" for attack, gain in sorted(gains[eps].items()))
    return judged(
        name,
        good=spreads[eps] <= tolerance,
        figure=f"points gained over the run without the hook at {radius(eps)}: {figure}",
        value=spreads[eps],
        suggests="part of the gain may come from masked gradients: rely on the smallest gain until the others are "
        "explained",
        otherwise="warning",
    )


def h_matters(curvature: Curvature | None, *, least: float = 0.02) -> GateItem:
    """Warn if a step of length h, as in training, changes the loss so little that the term had no effect."""
    name = "h large enough to matter"
    if curvature is None:
        return not_run(name, "the model was not trained under the hook")
    share = float(curvature.rise.mean().abs() / curvature.loss.mean().clamp_min(1e-12))
    return judged(
        name,
        good=share >= least,
        figure=f"a step of length h = {curvature.h:.3g} takes the mean loss of {len(curvature.loss)} images from "
        f"{float(curvature.loss.mean()):.3g} to {float((curvature.loss + curvature.rise).mean()):.3g}",
        value=share,
        suggests="the term was negligible beside the loss, so any gain has another cause: train with a larger h",
        otherwise="warning",
    )


def _spread(gains: Mapping[str, float]) -> float:
    return max(gains.values()) - min(gains.values())
