"""Several runs side by side: runs that differ in the seed only are one experiment, and each experiment has a label."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from guard_plugins.artifacts.formatting import numbers, tested
from guard_plugins.artifacts.report import ModelReport, Report
from guard_plugins.errors import ConfigError, DamagedError
from guard_plugins.report.runs import StoredRun, settings_of, whole_settings_of

KINDS: Final = {"student": "Student", "teacher": "Teacher", "student_hard": "Student, hard labels"}
"""The kinds of models of a run in the order reports show them, with their headings."""


def shown_kinds(reports: Iterable[Report]) -> dict[str, str]:
    """Return the kinds of models to show with their headings.

    Where every method gives hard labels, students learn those anyway, and those of the stored PNGs are left out.
    """
    only_hard = all(report.learned_from == "hard" for report in reports)
    return {kind: heading for kind, heading in KINDS.items() if not only_hard or kind != "student_hard"}


HELP: Final = {"guard": "hook on students", "feature": "features matched"}
"""What students may have beside labels, by the option's name."""


@dataclass(frozen=True, eq=False)
class Experiment:
    """One experiment: a run, or several that differ in the seed only.

    Attributes:
        label: What to call it; no other experiment has the same label.
        runs: The runs; pictures and the gate are those of the first.
    """

    label: str
    runs: Sequence[StoredRun]

    @property
    def first(self) -> StoredRun:
        """The run that pictures and the gate are taken from."""
        return self.runs[0]

    @property
    def report(self) -> Report:
        """The first run's report."""
        return self.first.report

    @cached_property
    def models(self) -> Mapping[str, ModelReport]:
        """Accuracies by kind of model; mean and sd if there are several runs."""
        found = {kind: [getattr(run.report.models, kind) for run in self.runs] for kind in KINDS}
        if len(self.runs) > 1:
            # Runs that were given one teacher measured one model: it is no sample of several.
            shared = {run.teacher or str(number): number for number, run in reversed([*enumerate(self.runs)])}
            found["teacher"] = [found["teacher"][number] for number in sorted(shared.values())]
        return {kind: _over_seeds(reports) for kind, reports in found.items() if None not in reports}


@dataclass(frozen=True, eq=False)
class Comparison:
    """The experiments of a report.

    Attributes:
        entries: The experiments, in the order given.
    """

    entries: Sequence[Experiment]

    @property
    def experiments(self) -> list[tuple[str, Mapping[str, ModelReport]]]:
        """Label and accuracies by kind of every experiment."""
        return [(entry.label, entry.models) for entry in self.entries]

    @property
    def kinds(self) -> dict[str, str]:
        """The kinds of models to show, with their headings."""
        return shown_kinds(entry.report for entry in self.entries)

    @property
    def dataset(self) -> str:
        """The data set of all runs."""
        return self.entries[0].report.dataset

    @property
    def attack_names(self) -> Mapping[str, str]:
        """How reports write the names of attacks, by name."""
        return {name: shown for entry in self.entries for run in entry.runs for name, shown in run.attack_names.items()}


def compare(runs: Sequence[StoredRun]) -> Comparison:
    """Group runs that differ in the seed only and were made by the same versions, and label the groups.

    Raises:
        ConfigError: If the runs are on different data sets, whose accuracies cannot be compared.
    """
    _require_one_dataset(runs)
    groups: dict[str, list[StoredRun]] = {}
    for run in runs:
        key = json.dumps([sorted(settings_of(run).items()), _measured(run.report), run.versions], default=str)
        seeds = [other.report.seed for other in groups.get(key, [])]
        groups.setdefault(f"{key}{len(groups)}" if run.report.seed in seeds else key, []).append(run)
    together = list(groups.values())
    labels = _distinguished(_labels([group[0] for group in together]), together)
    return Comparison([Experiment(label, group) for label, group in zip(labels, together, strict=True)])


def variant(report: Report) -> str:
    """Return how the teacher was trained: ``hook``, ``no hook`` or the name of a robust objective."""
    if report.guard is not None:
        return "hook"
    return "no hook" if report.training == "plain" else report.training


def help_of_students(run: StoredRun, kind: str = "student") -> dict[str, float]:
    """Return what a run's students had beside labels, with its weight: the hook, and the teacher's features.

    Args:
        run: The run.
        kind: Kind of model; those on hard labels match no features, and the teacher has neither.
    """
    settings, has = settings_of(run), {"student": ("guard", "feature"), "student_hard": ("guard",)}.get(kind, ())
    weights = {name: settings.get(f"student.{name}_weight") for name in has}
    return {HELP[name]: float(weight) for name, weight in weights.items() if weight}


def baseline_of(entry: Experiment, kind: str, comparison: Comparison) -> Experiment | None:
    """Return the experiment that an experiment's gains are measured against: the same without the hook.

    Args:
        entry: An experiment with the hook, or with a rival of it; any other has no baseline.
        kind: The kind of model the baseline must have.
        comparison: Where to look.
    """
    if variant(entry.report) == "no hook":
        return None
    for other in comparison.entries:
        one, two = other.report, entry.report
        same = (one.method, one.dataset, one.ipc) == (two.method, two.dataset, two.ipc)
        same = same and help_of_students(other.first, kind) == help_of_students(entry.first, kind)
        if same and variant(one) == "no hook" and kind in other.models:
            return other
    return None


def _require_one_dataset(runs: Sequence[StoredRun]) -> None:
    folders: dict[str, list[str]] = {}
    for run in runs:
        folders.setdefault(run.report.dataset, []).append(run.path.name)
    if len(folders) > 1:
        raise ConfigError(
            "The runs are on different data sets, whose numbers cannot be compared",
            seen="; ".join(f"{dataset}: {', '.join(names)}" for dataset, names in folders.items()),
            do="Give the runs of one data set at a time.",
        )
    # Own images all have the data set 'folder', and its place may change.
    known = [(run, run.figures.about.classes) for run in runs if run.figures is not None]
    for run, classes in known[1:]:
        first, others = known[0]
        if sorted(classes) != sorted(others):
            raise ConfigError(
                "The runs are on images of different classes, whose numbers cannot be compared",
                seen="; ".join(
                    f"{one.path.name}: {_listed(names)}" for one, names in ((first, others), (run, classes))
                ),
                do="Give the runs of one data set at a time.",
            )


def _listed(classes: Sequence[str]) -> str:
    more = f" and {len(classes) - 3} more" if len(classes) > 3 else ""
    return ", ".join(name if name.isprintable() else ascii(name) for name in classes[:3]) + more


def _labels(runs: Sequence[StoredRun]) -> list[str]:
    """Return method and variants of teacher and students, and images per class and images attacked if those differ."""
    reports = [run.report for run in runs]
    ipc = {report.ipc for report in reports}
    attacked = {_attacked(report) for report in reports}
    return [
        f"{report.method}, {variant(report)}"
        + "".join(f", {name}" for name in help_of_students(run))
        + (f", {report.ipc} per class" if len(ipc) > 1 else "")
        + (f", {_attacked(report)} {tested(report.dataset)}" if len(attacked) > 1 and _attacked(report) else "")
        for run, report in zip(runs, reports, strict=True)
    ]


def _attacked(report: Report) -> int:
    return max((found.images for found in report.models.student.robust), default=0)


def _distinguished(labels: Sequence[str], groups: Sequence[Sequence[StoredRun]]) -> list[str]:
    """Make labels unique: add the settings in which groups with the same label differ, or the folder."""
    settings = [
        whole_settings_of(group[0]) | _seeds(group) | {"versions": group[0].versions or "unknown"} for group in groups
    ]
    result = []
    for number, label in enumerate(labels):
        equal = [other for other in range(len(labels)) if labels[other] == label]
        names = [key for key in settings[number] if len({str(settings[other].get(key)) for other in equal}) > 1]
        if len(equal) > 1 and _one_teacher([groups[other] for other in equal]):
            # Trained in one run, and given to the others: that tells them apart only if nothing else does.
            names = [name for name in names if name.split(".")[0] != "teacher"] or names
        differences = ", ".join(f"{name} {settings[number][name]}" for name in names[:3])
        result.append(label if len(equal) == 1 else f"{label}, {differences or groups[number][0].path.name}")
    taken = [result.count(label) > 1 for label in result]
    return [f"{label} ({number + 1})" if taken[number] else label for number, label in enumerate(result)]


def _one_teacher(groups: Sequence[Sequence[StoredRun]]) -> bool:
    """Return whether the same teachers, by their files, are in all groups."""
    try:
        teachers = [{run.teacher for run in group} for group in groups]
    except DamagedError:  # of a record that names need not be read from
        return False
    return None not in teachers[0] and all(known == teachers[0] for known in teachers)


def _seeds(group: Sequence[StoredRun]) -> dict[str, str]:
    return {"seeds" if len(group) > 1 else "seed": numbers(run.report.seed for run in group)}


def _measured(report: Report) -> list[Any]:
    kinds = [getattr(report.models, kind) for kind in KINDS]
    attacks = [[(entry.attack, entry.eps) for entry in kind.robust] if kind else None for kind in kinds]
    return [report.guard, report.training, attacks]


def _over_seeds(reports: Sequence[ModelReport]) -> ModelReport:
    if len(reports) == 1:
        return reports[0]
    robust = [
        entries[0].model_copy(update=_spread([entry.accuracy for entry in entries], "accuracy"))
        for entries in zip(*(report.robust for report in reports), strict=True)
    ]
    clean = _spread([report.clean for report in reports], "clean")
    return ModelReport(**clean, models=len(reports), robust=robust)  # the sd is over runs, each a mean of its students


def _spread(values: Sequence[float], name: str) -> dict[str, Any]:
    return {name: statistics.fmean(values), "sd": statistics.stdev(values)}
