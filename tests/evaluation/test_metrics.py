from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard_plugins.errors import ConfigError
from guard_plugins.evaluation import metrics

SHARE = st.floats(0, 1)


def test_drop_rate_by_hand() -> None:
    assert metrics.drop_rate(0.8, 0.2) == pytest.approx(0.75)
    assert metrics.drop_rate(0.0, 0.0) is None


def test_rr_and_irr_by_hand() -> None:
    clean, robust = 0.8, [0.6, 0.4, 0.2]
    assert metrics.robustness_ratio(clean, robust) == pytest.approx(1 - 0.4 / 0.6)
    assert metrics.improved_robustness_ratio(clean, robust) == pytest.approx(1 - 0.4 * 0.6 / 0.64)
    assert metrics.robustness_ratio(0.5, [0.5, 0.5]) is None
    assert metrics.improved_robustness_ratio(0.0, [0.0]) is None


def test_rr_exceeds_one_where_an_attack_raises_accuracy() -> None:
    assert metrics.robustness_ratio(0.3, [0.2, 0.9]) > 1


def test_irr_rewards_a_low_clean_accuracy() -> None:
    assert metrics.improved_robustness_ratio(0.12, [0.1]) > metrics.improved_robustness_ratio(0.9, [0.6])


def test_dd_ranking_by_hand() -> None:
    hlr = metrics.hard_label_recovery(0.9, 0.4)
    ior = metrics.improvement_over_random(0.6, 0.5)
    assert (hlr, ior) == (pytest.approx(0.5), pytest.approx(0.1))
    alpha = 0.5 * 0.1 - 0.5 * 0.5
    expected = (math.exp(alpha) - math.exp(-1)) / (math.e - math.exp(-1))
    assert metrics.label_robust_score(hlr, ior) == pytest.approx(expected)
    assert metrics.label_robust_score(hlr, ior, weight=1.0) == pytest.approx(
        (math.exp(0.1) - math.exp(-1)) / (math.e - math.exp(-1))
    )


def test_the_scores_end_at_zero_and_one() -> None:
    assert metrics.label_robust_score(1.0, -1.0) == pytest.approx(0.0)
    assert metrics.label_robust_score(-1.0, 1.0) == pytest.approx(1.0)
    assert metrics.augmentation_robust_score(-1.0, -1.0) == pytest.approx(0.0)
    assert metrics.augmentation_robust_score(1.0, 1.0) == pytest.approx(1.0)
    assert metrics.augmentation_robust_score(0.2, 0.0, gamma=1.0) > metrics.augmentation_robust_score(0.2, 0.0)


@given(SHARE, SHARE, SHARE, SHARE)
def test_lrs_stays_within_bounds_and_falls_with_hlr(real: float, distilled: float, own: float, random: float) -> None:
    hlr = metrics.hard_label_recovery(real, distilled)
    ior = metrics.improvement_over_random(own, random)
    score = metrics.label_robust_score(hlr, ior)
    assert -1e-12 <= score <= 1 + 1e-12
    assert metrics.label_robust_score(hlr + 0.1, ior) < score


@pytest.mark.parametrize(
    "compute",
    [
        lambda: metrics.robustness_ratio(0.5, []),
        lambda: metrics.improved_robustness_ratio(0.5, []),
    ],
)
def test_nothing_to_compute_from_is_an_error(compute) -> None:
    with pytest.raises(ConfigError, match="nothing to compute"):
        compute()
