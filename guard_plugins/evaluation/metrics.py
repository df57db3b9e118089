"""Summary metrics of accuracies, as DD-RobustBench and DD-Ranking define them; accuracies are shares from 0 to 1."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from guard_plugins.artifacts.report import Drop, Metrics, ModelReport, Models, Ratios
from guard_plugins.errors import ConfigError


def drop_rate(clean: float, robust: float) -> float | None:
    """Return the share of the clean accuracy that the attack takes, (clean − robust) / clean; None at clean 0."""
    return (clean - robust) / clean if clean else None


def robustness_ratio(clean: float, robust: Sequence[float]) -> float | None:
    """Return RR = 1 − (a − mean A) / (a − min A), for clean accuracy a and accuracies A under several attacks.

    It is not bounded by 1 and says nothing about how low the accuracies are: never report it alone. None if no attack
    changes anything (a = min A).

    Args:
        clean: a, a share.
        robust: A, shares.

    Raises:
        ConfigError: If there are no accuracies under attack.
    """
    _need(robust, "RR")
    worst = clean - min(robust)
    return 1 - (clean - statistics.fmean(robust)) / worst if worst else None


def improved_robustness_ratio(clean: float, robust: Sequence[float]) -> float | None:
    """Return I-RR = 1 − (a − mean A)(a − min A) / a², symbols as in RR; None at clean 0.

    It rewards a low clean accuracy: never report it alone.

    Args:
        clean: a, a share.
        robust: A, shares.

    Raises:
        ConfigError: If there are no accuracies under attack.
    """
    _need(robust, "I-RR")
    if not clean:
        return None
    return 1 - (clean - statistics.fmean(robust)) * (clean - min(robust)) / clean**2


def hard_label_recovery(real: float, distilled: float) -> float:
    """Return HLR, the accuracy with hard labels on all real data minus that on the distilled set (DD-Ranking)."""
    return real - distilled


def improvement_over_random(distilled: float, random: float) -> float:
    """Return IOR, the accuracy on the distilled set minus that on as many random real images (DD-Ranking).

    Both accuracies are of students trained by the recipe of the distilled set.
    """
    return distilled - random


def label_robust_score(hlr: float, ior: float, *, weight: float = 0.5) -> float:
    """Return LRS = (e^α − e⁻¹) / (e − e⁻¹) with α = w · IOR − (1 − w) · HLR, between 0 and 1 (DD-Ranking).

    Args:
        hlr: Hard label recovery, a share. (DD-Ranking's release 0.2.0 passes percents, and its score is not bounded.)
        ior: Improvement over random, a share.
        weight: w, of IOR against HLR.
    """
    return _unit_score(weight * ior - (1 - weight) * hlr)


def augmentation_robust_score(with_augmentation: float, without: float, *, gamma: float = 0.5) -> float:
    """Return ARS, the same score of β = γ · (gain with augmentation) + (1 − γ) · (gain without) (DD-Ranking).

    Args:
        with_augmentation: Accuracy on the distilled set minus that on random real images, both with augmentation.
        without: The same difference without augmentation.
        gamma: γ, of the first against the second.
    """
    return _unit_score(gamma * with_augmentation + (1 - gamma) * without)


def _unit_score(exponent: float) -> float:
    low = math.exp(-1)
    return (math.exp(exponent) - low) / (math.e - low)


def _need(values: Sequence[float], what: str) -> None:
    if not values:
        raise ConfigError(f"There is nothing to compute {what} from.", do="give at least one accuracy")


def metrics_of(models: Models, *, plain: bool) -> Metrics:
    """Return the metrics of a run's students.

    Args:
        models: Accuracies of the run's models.
        plain: Whether the teacher was trained plainly on the real data with hard labels; HLR is known only then.
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
