"""The headline tables."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from guard_plugins.artifacts.formatting import attack_name, duration, numbers, percent, radius
from guard_plugins.artifacts.report import ModelReport, RobustAccuracy
from guard_plugins.report.comparison import KINDS
from guard_plugins.report.tables import Measured, curve_attack, noise, tables
from tests.report.folders import NAMES, model


def test_every_number_is_in_its_cell_and_the_best_is_marked_where_noise_does_not_explain_it() -> None:
    experiments = [
        ("a", {"student": model(0.9, 0.8, 0.6, 0.3), "teacher": model(0.99, 0.9, 0.9, 0.9)}),
        ("b", {"student": model(0.7, 0.8, 0.5, 0.4)}),
    ]
    (table,) = tables(experiments, KINDS, NAMES)
    assert list(table.heads) == ["clean", "ε = 1/255", "ε = 4/255", "ε = 16/255"]
    students, teachers = table.sections
    assert [[cell.text for cell in row.cells] for row in students.rows] == [
        ["90.0", "80.0", "60.0", "30.0"], ["70.0", "80.0", "50.0", "40.0"],
    ]  # fmt: skip
    assert [[cell.best for cell in row.cells] for row in students.rows] == [
        [True, False, False, False], [False, False, False, False],
    ]  # fmt: skip
    assert [row.label for row in teachers.rows] == ["a"]
    assert not any(cell.best for cell in teachers.rows[0].cells)  # nothing to be better than


def test_further_attacks_get_a_table_per_radius_and_norm() -> None:
    more = [
        RobustAccuracy(attack="autoattack", norm="Linf", eps=4 / 255, accuracy=0.55, images=100),
        RobustAccuracy(attack="cw-l2", norm="L2", eps=0.5, accuracy=0.25, sd=0.01, images=100),
    ]
    found = tables([("a", {"student": model(0.9, 0.8, 0.6, 0.3, more=more)})], KINDS, NAMES)
    assert [table.title for table in found] == [
        "Right, in percent of 100 test images, under PGD-20 (L∞) at growing ε",
        "Right, in percent of 100 test images, at ε = 4/255 (L∞)",
        "Right, in percent of 100 test images, at ε = 0.5 (L2)",
    ]  # fmt: skip
    assert list(found[1].heads) == ["clean", "PGD-20", "AutoAttack"]
    assert [cell.text for cell in found[1].sections[0].rows[0].cells] == ["90.0", "60.0", "55.0"]
    assert [cell.text for cell in found[2].sections[0].rows[0].cells] == ["90.0", "25.0 ± 1.0"]


def test_what_was_not_measured_is_a_dash() -> None:
    experiments = [
        ("a", {"student": model(0.9, 0.8, 0.6, 0.3)}),
        ("b", {"student": model(0.9, 0.8, 0.6, 0.3, attack="pgd-100")}),
    ]
    cells = [[cell.text for cell in row.cells] for row in tables(experiments, KINDS, NAMES)[0].sections[0].rows]
    assert cells[1] == ["90.0", "–", "–", "–"]


def test_the_curve_is_the_attack_with_the_most_radii() -> None:
    one = RobustAccuracy(attack="square", norm="Linf", eps=1 / 255, accuracy=0.5, images=9)
    assert curve_attack([one, *model(0.9, 0.8, 0.6, 0.3).robust]) == "pgd-20"
    assert curve_attack([one]) is None


def test_wording() -> None:
    shown = [attack_name(label, NAMES) for label in ("pgd-20", "cw-linf-100", "autoattack", "own-7", "pgdx", "pgd")]
    assert shown == ["PGD-20", "CW-L∞-100", "AutoAttack", "own-7", "pgdx", "PGD"]
    assert (percent(0.12345), percent(0.5, 0.0123), percent(None)) == ("12.3", "50.0 ± 1.2", "–")
    assert (radius(8 / 255), radius(0.5, "L2")) == ("8/255", "0.5")
    assert (duration(3.21), duration(150), duration(9000)) == ("3.2 s", "2.5 min", "2.5 h")


def test_all_that_noise_may_separate_from_the_best_are_marked() -> None:
    def marked(*students: ModelReport) -> list[bool]:
        (table,) = tables([(str(n), {"student": one}) for n, one in enumerate(students)], KINDS, NAMES)
        return [row.cells[0].best for row in table.sections[0].rows]

    # 1.96 standard errors of a difference of shares near 0.85 on 100 images are about ten points
    assert marked(model(0.88, 0, 0, 0), model(0.82, 0, 0, 0), model(0.5, 0, 0, 0)) == [True, True, False]
    assert marked(model(0.88, 0, 0, 0), model(0.82, 0, 0, 0)) == [False, False]
    spread = model(0.9, 0, 0, 0).model_copy(update={"sd": 0.2, "models": 3})
    assert marked(spread, model(0.6, 0, 0, 0)) == [False, False]
    seeds = {"models": 2}
    rows = [(0.763, 0.053), (0.487, 0.053), (0.325, 0.141)]  # the last is as far as noise reaches, the second is not
    found = [model(mean, 0, 0, 0).model_copy(update={"sd": sd, **seeds}) for mean, sd in rows]
    assert marked(*found) == [True, False, False]


def test_noise_of_seeds_is_the_one_of_students_t_test() -> None:
    """Two samples lie just within or just beyond noise where their p is just above or just below 0.05."""
    draw = np.random.default_rng(0)
    beyond = 0
    for _ in range(200):
        one, other = (draw.normal(centre, 0.05, draw.integers(2, 7)) for centre in (0.5, 0.6))
        shares = [Measured(values.mean(), values.std(ddof=1), len(values)) for values in (one, other)]
        told = abs(shares[0].mean - shares[1].mean) > noise(*shares, images=10**9)
        assert told == (stats.ttest_ind(one, other).pvalue < 0.05)
        beyond += told
    assert 20 < beyond < 180


def test_noise_of_a_single_seed_is_that_of_drawing_images_or_of_the_other_side() -> None:
    assert noise(Measured(0.5), Measured(0.5), 100) == pytest.approx(1.96 * math.sqrt(0.5 / 100))
    one_sided = noise(Measured(0.5), Measured(0.6, 0.1, 3), 10**9)
    assert one_sided == pytest.approx(stats.t.ppf(0.975, 2) * 0.1 * math.sqrt(1 + 1 / 3))


@pytest.mark.parametrize(
    ("given", "text"),
    [((), ""), ((3,), "3"), ((1, 0), "0, 1"), (range(10), "0 to 9"), ((7, 0, 1, 2, 5, 4), "0 to 2, 4, 5, 7")],
)
def test_numbers_that_follow_each_other_are_a_range(given: Sequence[int], text: str) -> None:
    assert numbers(given) == text
