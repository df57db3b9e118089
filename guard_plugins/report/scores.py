"""Summary metrics of the students of every experiment, as far as the given runs allow them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from guard_plugins.artifacts.report import Drop, ModelReport, Ratios
from guard_plugins.config.student import StudentConfig
from guard_plugins.evaluation.metrics import (
    augmentation_robust_score,
    drops,
    hard_label_recovery,
    improvement_over_random,
    label_robust_score,
    ratios,
)
from guard_plugins.report.comparison import Comparison, Experiment, variant
from guard_plugins.report.runs import settings_of
from guard_plugins.report.tables import CLEAN, Column, accuracy, curve_attack
from guard_plugins.training.recipes import RECIPES, recipe_of


@dataclass(frozen=True)
class Scores:
    """Metrics of one experiment's students.

    Attributes:
        label: The experiment.
        drops: Drop rate under every attack.
        ratios: RR and I-RR at every radius at least two attacks were run at.
        hlr: Hard label recovery: clean accuracy of a plainly trained teacher minus that of the hard-label student.
        ior: Improvement over random: the student's clean accuracy minus that on random real images.
        lrs: Label robust score of the two.
        ars: Augmentation robust score: gains over random real images with and without augmentation of the students.
        basis: Which experiments HLR and IOR were computed with, or which run is missing.
    """

    label: str
    drops: Sequence[Drop]
    ratios: Sequence[Ratios]
    hlr: float | None
    ior: float | None
    lrs: float | None
    ars: float | None
    basis: str


def scores(comparison: Comparison) -> list[Scores]:
    """Return the metrics of every experiment."""
    return [_scores(entry, comparison) for entry in comparison.entries]


def _scores(entry: Experiment, comparison: Comparison) -> Scores:
    student = entry.models["student"]
    real, random_run = _plain(entry, comparison), _random(entry, comparison)
    hlr = ior = lrs = None
    if real is not None:
        hlr = hard_label_recovery(real.models["teacher"].clean, entry.models["student_hard"].clean)
    if random_run is not None:
        ior = improvement_over_random(student.clean, random_run.models["student"].clean)
    if hlr is not None and ior is not None:
        lrs = label_robust_score(hlr, ior)
    ars = _ars(entry, comparison)
    return Scores(entry.label, drops(student), ratios(student), hlr, ior, lrs, ars, _basis(entry, real, random_run))


def _ars(entry: Experiment, comparison: Comparison) -> float | None:
    """Return the score where both the experiment and random images were run with and without augmentation."""
    gains: dict[bool, float] = {}
    for other in (entry, *comparison.entries):
        random_run = _random(other, comparison)
        if random_run is not None and _same_but_augmentation(entry, other):
            ours, random = other.models["student"].clean, random_run.models["student"].clean
            gains.setdefault(_augmented(other), improvement_over_random(ours, random))
    return augmentation_robust_score(gains[True], gains[False]) if len(gains) == 2 else None


def _augmented(entry: Experiment) -> bool:
    # The recipe of a plugin is not at hand: without an option of the user's it counts as augmenting.
    settings = StudentConfig.model_validate(entry.first.config.get("student") or {})
    if settings.protocol not in RECIPES:
        return settings.augment != "none"
    return recipe_of(settings).augment != "none"


def _same_but_augmentation(one: Experiment, other: Experiment) -> bool:
    ours, theirs = ({**settings_of(entry.first), "student.augment": None} for entry in (one, other))
    return ours == theirs and one.report.guard == other.report.guard and one.report.training == other.report.training


def _basis(entry: Experiment, real: Experiment | None, random_run: Experiment | None) -> str:
    hlr = "HLR (hard label recovery), the accuracy lost against a plainly trained teacher, needs a run with --no-guard"
    if real:
        hlr = f"HLR against the teacher of {real.label!r}"
    ior = "IOR (improvement over random), the gain over random real images, needs a run with --method random"
    if random_run:
        ior = f"IOR against {random_run.label!r}"
    elif entry.report.method == "random":
        ior = "no IOR, since these are random real images"
    return f"{hlr}; {ior}"


def _plain(entry: Experiment, comparison: Comparison) -> Experiment | None:
    """Return an experiment whose teacher was trained plainly on the real data, the entry itself if possible."""
    for other in (entry, *comparison.entries):
        if variant(other.report) == "no hook" and "teacher" in other.models and _alike(entry, other, "teacher"):
            return other
    return None


def _random(entry: Experiment, comparison: Comparison) -> Experiment | None:
    """Return the experiment on random real images with the same recipe, if possible with the same kind of teacher."""
    known = [
        other
        for other in comparison.entries
        if other.report.method == "random" and other.report.ipc == entry.report.ipc and _alike(entry, other, "student")
    ]
    known.sort(key=lambda other: variant(other.report) != variant(entry.report))
    return None if entry.report.method == "random" or not known else known[0]


def _alike(one: Experiment, other: Experiment, section: str) -> bool:
    """Return whether two experiments have the same data set and network (for students, the same recipe as well)."""
    ours, theirs = (entry.first.config.get(section) or {} for entry in (one, other))
    if section == "teacher":
        ours, theirs = ours.get("network"), theirs.get("network")
    return one.report.dataset == other.report.dataset and bool(ours == theirs)


def half_broken(model: ModelReport) -> tuple[str, str, float] | None:
    """Return the attack, norm and radius at which a model's accuracy is nearest to half of its clean accuracy."""
    curve = curve_attack(model.robust)
    known = [entry for entry in model.robust if entry.eps and curve in (None, entry.attack)]
    nearest = min(known, key=lambda entry: abs(entry.accuracy - model.clean / 2), default=None)
    return None if nearest is None else (nearest.attack, nearest.norm, nearest.eps)


def common_column(models: Sequence[ModelReport]) -> Column:
    """Return the attack and radius that were tried on all models and break about half of the first one's images.

    A lead at a radius at which the others were not attacked would be none. Where they share no attack, it is `CLEAN`.
    """
    first, usual = models[0], half_broken(models[0])
    known: list[Column] = [(one.attack, one.norm, one.eps) for one in first.robust if one.eps]
    shared = [column for column in known if all(accuracy(model, column) for model in models)]
    if usual in shared or not shared:
        return usual if usual in shared and usual is not None else CLEAN
    return min(shared, key=lambda column: abs(_mean(first, column) - first.clean / 2))


def _mean(model: ModelReport, column: Column) -> float:
    found = accuracy(model, column)
    return 0.0 if found is None else found.mean
