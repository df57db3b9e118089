"""Gate items that compare with a baseline: warnings about what a robust gain may have cost or hide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from guard_plugins.evaluation.gate.item import Item, judged, not_run, over_255, points

if TYPE_CHECKING:
    from guard_plugins.evaluation.accuracy import AttackResult
    from guard_plugins.evaluation.curvature import Curvature


def clean_is_kept(clean: float, baseline: float | None, *, tolerance: float = 0.05) -> Item:
    """Warn of a large drop in clean accuracy against the same method without the hook."""
    name = "clean accuracy kept"
    if baseline is None:
        return not_run(name, "no baseline was given")
    return judged(
        name,
        good=baseline - clean <= tolerance,
        figure=f"{points(clean)} against {points(baseline)} without",
        value=baseline - clean,
        suggests="robustness was paid for in clean accuracy: show both, and try a smaller h",
        otherwise="warning",
    )


def gains_agree(results: Sequence[AttackResult], baseline: Sequence[AttackResult], *, tolerance: float = 0.1) -> Item:
    """Warn where the gain over the baseline depends on the attack that measures it."""
    name = "gains agree across attacks"
    before = {(result.attack, result.eps): result.accuracy for result in baseline if result.eps}
    gains: dict[float, dict[str, float]] = {}
    for result in results:
        if result.norm == "Linf" and (result.attack, result.eps) in before:
            gain = result.accuracy - before[result.attack, result.eps]
            gains.setdefault(result.eps, {})[result.attack] = gain
    spreads = {eps: _spread(by_attack) for eps, by_attack in gains.items() if len(by_attack) > 1}
    if not spreads:
        return not_run(name, "no two attacks ran on both this and a baseline at the same radius")
    eps = max(spreads, key=lambda radius: spreads[radius])
    figure = ", ".join(f"{attack} {100 * gain:+.1f}" for attack, gain in sorted(gains[eps].items()))
    return judged(
        name,
        good=spreads[eps] <= tolerance,
        figure=f"points over the baseline at {over_255(eps)}: {figure}",
        value=spreads[eps],
        suggests="part of the gain may be masked gradients: believe the smallest gain until the others are explained",
        otherwise="warning",
    )


def h_matters(curvature: Curvature | None, *, least: float = 0.02) -> Item:
    """Warn where a step of the training's h moves the loss too little for the term to have done anything."""
    name = "h large enough to matter"
    if curvature is None:
        return not_run(name, "no curvature was measured at a training h")
    share = float(curvature.rise.mean().abs() / curvature.loss.mean().clamp_min(1e-12))
    return judged(
        name,
        good=share >= least,
        figure=f"a step of h = {curvature.h:.3g} changes the mean loss by {points(share)} %",
        value=share,
        suggests="the term was negligible beside the loss: any gain has another cause, train with a larger h",
        otherwise="warning",
    )


def _spread(gains: Mapping[str, float]) -> float:
    return max(gains.values()) - min(gains.values())
