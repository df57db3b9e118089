"""The release gate: every check a robustness claim must pass, run automatically after an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from guard_plugins.artifacts.report import GateItem
from guard_plugins.evaluation.gate import bound, comparison, eligibility, ordering, probes
from guard_plugins.evaluation.gate.subject import Subject

if TYPE_CHECKING:
    from guard_plugins.evaluation.accuracy import AttackResult
    from guard_plugins.evaluation.curvature import Curvature

__all__ = ["GateItem", "Subject", "examine", "probe", "review"]


def examine(
    subject: Subject,
    *,
    clean: float,
    results: Sequence[AttackResult],
    h: float,
    curvature: Curvature | None = None,
    baseline_clean: float | None = None,
    baseline: Sequence[AttackResult] = (),
    known: Sequence[GateItem] = (),
    progress: Callable[[GateItem, int, int], None] | None = None,
) -> list[GateItem]:
    """Return every item of the gate: those that need the results only, then those that attack the model again.

    Args:
        subject: The model, images and radius to probe.
        clean: Clean accuracy on the images of ``results``.
        results: What the protocol measured.
        h: L2 length in pixel units of the step at which curvature is measured.
        curvature: Curvature measured at the h of training, if the model was trained under the hook.
        baseline_clean: Clean accuracy of the same method without the hook, if it is known.
        baseline: Results of the same method without the hook.
        known: Items of the first probes, if an earlier process made them already.
        progress: Called after every probe with its item, the number of probes done and the number of probes.
    """
    return [
        *review(clean=clean, results=results, classes=subject.classes(), images=len(subject.labels)),
        *probe(subject, h=h, known=known, progress=progress),
        comparison.clean_is_kept(clean, baseline_clean),
        comparison.gains_agree(results, baseline),
        comparison.h_matters(curvature),
    ]


def review(*, clean: float, results: Sequence[AttackResult], classes: int, images: int) -> list[GateItem]:
    """Return the items that need the results of a protocol only.

    Args:
        clean: Clean accuracy on the images of ``results``.
        results: What the protocol measured.
        classes: Number of classes.
        images: Number of images of ``clean``, if there are no results.
    """
    return [
        ordering.never_above_clean(clean, results),
        ordering.stronger_is_lower(results),
        ordering.square_not_below_white_box(results),
        ordering.curve_is_monotone(results),
        ordering.clean_above_chance(
            clean, classes=classes, images=max((result.images for result in results), default=images)
        ),
    ]


def probe(
    subject: Subject,
    *,
    h: float,
    known: Sequence[GateItem] = (),
    progress: Callable[[GateItem, int, int], None] | None = None,
) -> list[GateItem]:
    """Return the items that attack the model again; a failure is one on more images too, where there are more.

    Args:
        subject: The model, images and radius to probe.
        h: L2 length in pixel units of the step at which curvature is measured.
        known: Items of the first probes, if an earlier process made them already.
        progress: Called after every probe with its item, the number of probes done and the number of probes.
    """
    checks: tuple[Callable[[Subject], GateItem], ...] = (
        eligibility.logits_are_deterministic,
        eligibility.outputs_are_logits,
        eligibility.forward_does_not_optimise,
        eligibility.gradients_are_not_zero,
        probes.scale_of_logits_is_immaterial,
        probes.margin_losses_agree,
        probes.converged,
        probes.falls_to_zero,
        probes.noise_is_weaker,
        probes.transfer_is_weaker,
        probes.teacher_is_of_little_help,
        partial(bound.loss_rise_within_bound, h=h),
    )
    items, larger = list(known), None
    for check in checks[len(known) :]:
        items.append(check(subject))
        if items[-1].verdict == "failed" and subject.confirm is not None:
            larger = larger or subject.confirm()
            items[-1] = _repeated(check(larger), images=(len(subject.labels), len(larger.labels)))
        if progress is not None:
            progress(items[-1], len(items), len(checks))
    return items


def _repeated(item: GateItem, *, images: tuple[int, int]) -> GateItem:
    few, many = images
    return item.model_copy(update={"figure": f"{item.figure} ({many} images, after a failure on {few})"})
