"""The field's summary metrics that one run's accuracies allow."""

from __future__ import annotations

from guard_plugins.evaluation.metrics import (
    drop_rate,
    hard_label_recovery,
    improved_robustness_ratio,
    robustness_ratio,
)
from guard_plugins.report.model import Drop, Metrics, ModelReport, Models, Ratios


def metrics_of(models: Models, *, plain: bool) -> Metrics:
    """Return the metrics of a run's students.

    Args:
        models: Accuracies of the run's models.
        plain: Whether the teacher saw the real data with hard labels and nothing else: then HLR is known.
    """
    real = models.teacher if plain else None
    hlr = None if real is None else hard_label_recovery(real.clean, models.student_hard.clean)
    return Metrics(drops=drops(models.student), ratios=ratios(models.student), hlr=hlr)


def drops(student: ModelReport) -> list[Drop]:
    """Return the drop rate under every attack."""
    return [
        Drop(attack=it.attack, norm=it.norm, eps=it.eps, value=drop_rate(student.clean, it.accuracy))
        for it in student.robust
        if it.eps
    ]


def ratios(student: ModelReport) -> list[Ratios]:
    """Return RR and I-RR at every L-infinity radius that at least two attacks were run at."""
    found = []
    for eps in student.radii():
        under = [entry.accuracy for entry in student.robust if entry.norm == "Linf" and entry.eps == eps]
        if len(under) > 1:
            rr, irr = robustness_ratio(student.clean, under), improved_robustness_ratio(student.clean, under)
            found.append(Ratios(eps=eps, attacks=len(under), rr=rr, irr=irr))
    return found
