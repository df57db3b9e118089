"""The release gate: every check a robustness claim must pass, run by machine after an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from guard_plugins.evaluation.gate import bound, comparison, eligibility, ordering, probes
from guard_plugins.evaluation.gate.item import Item, Verdict
from guard_plugins.evaluation.gate.subject import Subject

if TYPE_CHECKING:
    from guard_plugins.evaluation.accuracy import AttackResult
    from guard_plugins.evaluation.curvature import Curvature

__all__ = ["Item", "Subject", "Verdict", "examine", "failed", "probe", "review"]


def examine(
    subject: Subject,
    *,
    clean: float,
    results: Sequence[AttackResult],
    h: float,
    curvature: Curvature | None = None,
    baseline_clean: float | None = None,
    baseline: Sequence[AttackResult] = (),
    known: Sequence[Item] = (),
    progress: Callable[[Item, int, int], None] | None = None,
) -> list[Item]:
    """Return every item of the gate: what follows from the results, then what probing the model shows.

    Args:
        subject: The model, images and radius to probe.
        clean: Clean accuracy on the images of ``results``.
        results: What the protocol measured.
        h: L2 length in pixel units of the step at which curvature is measured.
        curvature: Curvature measured at the training's h, where there was one.
        baseline_clean: Clean accuracy of the same method without the hook, where it is known.
        baseline: Results of the same method without the hook.
        known: Items of the first probes, where they are known already.
        progress: Called after each other probe with its item, the number of probes done and the number of probes.
    """
    return [
        *review(clean=clean, results=results),
        ordering.clean_above_chance(
            clean, classes=subject.classes(), images=max((r.images for r in results), default=len(subject.labels))
        ),
        *probe(subject, h=h, known=known, progress=progress),
        comparison.clean_is_kept(clean, baseline_clean),
        comparison.gains_agree(results, baseline),
        comparison.h_matters(curvature),
    ]


def review(*, clean: float, results: Sequence[AttackResult]) -> list[Item]:
    """Return the items that follow from a protocol's results alone."""
    return [
        ordering.never_above_clean(clean, results),
        ordering.stronger_is_lower(results),
        ordering.square_not_below_white_box(results),
        ordering.curve_is_monotone(results),
    ]


def probe(
    subject: Subject,
    *,
    h: float,
    known: Sequence[Item] = (),
    progress: Callable[[Item, int, int], None] | None = None,
) -> list[Item]:
    """Return the items that ask the model again; arguments as in :func:`examine`."""
    checks: tuple[Callable[[Subject], Item], ...] = (
        eligibility.logits_are_deterministic,
        eligibility.answers_are_logits,
        eligibility.forward_does_not_optimise,
        eligibility.gradients_are_not_zero,
        probes.scale_of_logits_is_immaterial,
        probes.margin_losses_agree,
        probes.converged,
        probes.falls_to_zero,
        probes.noise_is_weaker,
        probes.transfer_is_weaker,
        probes.teacher_is_of_little_help,
        lambda it: bound.loss_rise_within_bound(it, h=h),
    )
    items = list(known)
    for check in checks[len(known) :]:
        items.append(check(subject))
        if progress is not None:
            progress(items[-1], len(items), len(checks))
    return items


def failed(items: Sequence[Item]) -> list[Item]:
    """Return the items that failed: with any, the numbers are not to be quoted."""
    return [item for item in items if item.verdict == "failed"]
