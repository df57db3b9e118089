"""Whose students lead is said of an attack that was made on all of them."""

from __future__ import annotations

from pathlib import Path

from guard_plugins.artifacts.report import ModelReport, RobustAccuracy
from guard_plugins.report.comparison import compare
from guard_plugins.report.runs import load_run
from guard_plugins.report.summary import lead
from tests.report.folders import GUARD, model, write_run


def attacked(attack: str, *eps: int, clean: float = 0.9) -> ModelReport:
    robust = [
        RobustAccuracy(attack=attack, norm="Linf", eps=one / 255, accuracy=clean - 0.04 * one, images=100)
        for one in eps
    ]
    return ModelReport(clean=clean, robust=robust)


def lead_of(tmp_path: Path, first: ModelReport, second: ModelReport) -> str:
    runs = [
        write_run(tmp_path / "a", guard=GUARD, student=first), write_run(tmp_path / "b", student=second),
    ]  # fmt: skip
    return lead(compare([load_run(run) for run in runs]), [])


def test_the_radius_is_one_at_which_all_were_attacked(tmp_path: Path) -> None:
    said = lead_of(tmp_path, attacked("pgd-20", 2, 8), attacked("pgd-20", 2, 4))
    assert said.startswith("Attacked by PGD-20 at ε = 2/255, students of 'sre2l, hook' are right most often, on 82.0 %")


def test_a_radius_of_one_run_alone_is_no_lead(tmp_path: Path) -> None:
    for number, other in enumerate((attacked("pgd-20", 4, clean=0.95), attacked("fgsm", 8, clean=0.95))):
        said = lead_of(tmp_path / str(number), attacked("pgd-20", 8), other)
        begin = (
            "No attack was made on all of them at one ε. Without attack, students of 'sre2l, no hook' are right most"
        )
        assert said.startswith(begin)


def test_the_radius_that_breaks_half_stays_where_all_have_it(tmp_path: Path) -> None:
    said = lead_of(tmp_path, model(0.9, 0.8, 0.5, 0.3), model(0.9, 0.8, 0.1, 0.0))
    assert said.startswith("Attacked by PGD-20 at ε = 4/255, ")


def test_versions_that_nothing_says_are_unknown(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, seed=seed) for seed, name in enumerate("ab")]
    (runs[1] / "manifest.json").unlink()
    labels = [entry.label for entry in compare([load_run(run) for run in runs]).entries]
    assert labels[1].endswith("versions unknown")
