"""Writes RESULTS.md and its figures from the records alone: words are in RESULTS.md.j2, every number is computed."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import jinja2

from examples.experiments import cost
from examples.experiments.answers import NOTHING, answer
from examples.experiments.differences import interval, write_differences
from examples.experiments.drawing import accuracy_against_cost, curves, landscapes
from examples.experiments.passes import ROWS
from examples.experiments.plan import Experiment, anchor, by_chapter
from examples.experiments.record import Landscape, Record
from guard_plugins.artifacts.atomic import write_text
from guard_plugins.artifacts.report import GateItem, ModelReport

KINDS = {"student": "student", "student_hard": "student, hard labels", "teacher": "teacher"}
RADII = {"student": (1, 2, 4, 8), "student_hard": (1,), "teacher": (1, 4)}
"""Radii over 255 shown for every kind of model."""
MOST_LINES = 10
"""Rows above which an experiment gets no figure: nobody could tell its lines apart."""


@dataclass(frozen=True)
class Results:
    """All records, asked by experiment, row and kind of model.

    Attributes:
        experiments: By name.
        records: By the name of their run.
    """

    experiments: Mapping[str, Experiment]
    records: Mapping[str, Record]

    def of(self, experiment: str, row: str) -> list[tuple[int, Record]]:
        """Return seeds and records of a row."""
        runs = [run for run in self.experiments[experiment].runs() if run.row == row]
        return [(run.seed, self.records[run.name]) for run in runs if run.name in self.records]

    def values(self, experiment: str, row: str, kind: str, eps: float, attack: str | None = None) -> dict[int, float]:
        """Return accuracies in percent by seed; ``eps`` is over 255, 0 is clean."""
        found = {}
        for seed, record in self.of(experiment, row):
            model = model_of(record, kind)
            if model is None:
                continue
            try:
                found[seed] = 100 * (model.clean if not eps else model.at(eps / 255, attack))
            except KeyError:
                continue
        return found

    def mean(self, experiment: str, row: str, kind: str = "student", eps: float = 0, attack: str | None = None) -> str:
        """Return mean ± sd in percent."""
        return spread(list(self.values(experiment, row, kind, eps, attack).values()))

    def of_seed(self, experiment: str, row: str, seed: int, eps: float) -> str:
        """Return the accuracy of one seed's student in percent."""
        return spread([value for at, value in self.values(experiment, row, "student", eps).items() if at == seed])

    def has(self, experiment: str, *rows: str) -> bool:
        """Say whether rows of an experiment have records, for at least one seed in common."""
        return bool(self.seeds(experiment, *rows))

    def seeds(self, experiment: str, *rows: str) -> int:
        """Return the number of seeds that rows of an experiment share."""
        if experiment not in self.experiments:
            return 0
        return len(set.intersection(*({seed for seed, _ in self.of(experiment, row)} for row in rows)))

    def gain(
        self,
        experiment: str,
        row: str,
        against: str,
        kind: str = "student",
        eps: float = 1,
        *,
        other: str | None = None,
    ) -> str:
        """Return the mean difference of two rows over the seeds they share, with its 95 % interval (Student's t).

        ``other`` is the experiment of the second row, where it is not the same.
        """
        places = ((experiment, row), (other or experiment, against))
        ours, theirs = (self.values(*place, kind, eps) for place in places)
        return difference([ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())])

    def curvature(self, experiment: str, row: str, kind: str) -> dict[str, float]:
        """Return slope ‖g‖, curvature κ along it and largest |λ|, the mean over seeds of medians over test images."""
        found = [record.report.curvature[kind] for _, record in self.of(experiment, row) if record.report is not None]
        columns = {"g": "gradient_norm", "kappa": "along_gradient", "lambda": "eigenvalue"}
        return {short: statistics.fmean(getattr(one, name) for one in found) for short, name in columns.items()}

    def fastest(self, experiment: str, row: str, stage: str) -> float:
        """Return the seconds of a stage in the row's fastest run; others may have shared their machine."""
        return min(one.report.seconds[stage] for _, one in self.of(experiment, row) if one.report is not None)

    def where(self, experiment: str) -> list[str]:
        """Return machines and versions of an experiment's runs."""
        found = [record for row in self.experiments[experiment].rows for _, record in self.of(experiment, row)]
        return sorted({f"{one.machine}; {', '.join(f'{k} {v}' for k, v in one.versions.items())}" for one in found})

    def gate(self, experiment: str, row: str) -> str:
        """Return what the gate found on the row's students, or the one model evaluated."""
        verdicts = [gate_of(record) for _, record in self.of(experiment, row)]
        failed = Counter(item.name for items in verdicts for item in items if item.verdict == "failed")
        if not all(verdicts):
            return "not run"
        return "; ".join(f"failed in {n} of {len(verdicts)}: {name}" for name, n in failed.items()) or "passed"


def model_of(record: Record, kind: str) -> ModelReport | None:
    """Return the accuracies of a kind of model, None where the run has none."""
    if record.evaluation is not None:
        return record.evaluation.model if kind == "student" else None
    assert record.report is not None
    found: ModelReport | None = getattr(record.report.models, kind)
    return found


def gate_of(record: Record) -> list[GateItem]:
    """Return the gate's items on the student."""
    if record.evaluation is not None:
        return record.evaluation.gate
    assert record.report is not None
    return record.report.gate.get("student", [])


def spread(values: Sequence[float]) -> str:
    """Return mean and, for several values, sample standard deviation."""
    if not values:
        return NOTHING
    mean = f"{statistics.fmean(values):.1f}"
    return f"{mean} ± {statistics.stdev(values):.1f}" if len(values) > 1 else mean


def difference(values: Sequence[float]) -> str:
    """Return the mean and, for several values, its 95 % interval."""
    if not values:
        return NOTHING
    mean = statistics.fmean(values)
    if len(values) == 1:
        return f"{mean:+.1f}"
    half = interval(list(values))
    return f"{mean:+.1f} [{mean - half:+.1f}, {mean + half:+.1f}]"


def table(results: Results, experiment: Experiment) -> str:
    """Return an experiment's table in Markdown; rows without a record are left out."""
    shown = [kind for kind in KINDS if kind in experiment.show]
    columns = [(kind, eps) for kind in shown for eps in (0, *RADII[kind])]
    columns = [
        column for column in columns if any(results.values(experiment.name, row, *column) for row in experiment.rows)
    ]
    heads = ["", "seeds", *(_head(kind, eps, before) for (before, _), (kind, eps) in pairwise([("", 0), *columns]))]
    radius = next((eps for kind, eps in columns if kind == "student" and eps), 0)
    if experiment.against is not None:
        heads.append(f"gain over {experiment.against!r}: {_head('student', radius, 'student')}")
    lines = [heads, ["---"] * (len(heads) + 1)]
    heads.append("gate")
    for row in experiment.rows:
        if seeds := results.of(experiment.name, row):
            cells = [row, str(len(seeds)), *(results.mean(experiment.name, row, *column) for column in columns)]
            if experiment.against is not None:
                same = row == experiment.against
                cells.append(NOTHING if same else results.gain(experiment.name, row, experiment.against, eps=radius))
            lines.append([*cells, results.gate(experiment.name, row)])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def write_results(folder: Path, experiments: Sequence[Experiment], records: Mapping[str, Record]) -> None:
    """Write RESULTS.md and ``figures/`` into ``folder``.

    Args:
        folder: Where RESULTS.md.j2 is.
        experiments: In the order of the page.
        records: Of the finished runs, by name.
    """
    results = Results({experiment.name: experiment for experiment in experiments}, records)
    done = [one for one in experiments if any(results.of(one.name, row) for row in one.rows)]
    for experiment in done:
        rows = {row: [record for _, record in results.of(experiment.name, row)] for row in experiment.rows}
        drawn = {row: [model_of(record, "student") for record in found] for row, found in rows.items() if found}
        if len(experiment.rows) <= MOST_LINES:
            curves(folder / "figures" / f"{experiment.name}.svg", experiment.title, drawn)
    slices = _slices(results) if "sre2l" in results.experiments else {}
    if slices:
        landscapes(folder / "figures/landscape.svg", slices)
    points = _costs(results)
    if points:
        accuracy_against_cost(folder / "figures/cost.svg", points)
    template = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, keep_trailing_newline=True
    ).from_string((folder / "RESULTS.md.j2").read_text(encoding="utf-8"))
    found = list(records.values())
    text = template.render(
        chapters=by_chapter(done), anchor=anchor, passes=ROWS, waiting=_waiting(results), cost=cost,
        points=points, results=results, table=lambda one: table(results, one), records=found, slices=slices,
        answer=lambda one: answer(results, one), most_lines=MOST_LINES,
        machines=sorted({record.machine for record in found}),
        versions=sorted({", ".join(f"{k} {v}" for k, v in record.versions.items()) for record in found}),
    )  # fmt: skip
    write_text(folder / "RESULTS.md", text)
    write_differences(folder / "differences.csv", results)


def _costs(results: Results) -> dict[str, tuple[float, float]]:
    """Return the cost of the teacher and the accuracy at 1/255 of SRe2L's students, by row."""
    ratios, found = cost.ratios(), {}
    for (experiment, row), name in cost.ROWS.items():
        values = results.values(experiment, row, "student", 1) if results.has(experiment, row) else {}
        if values:
            found[row] = (ratios[name], statistics.fmean(values.values()))
    return found


def _slices(results: Results) -> dict[str, dict[str, Landscape]]:
    """Return the landscapes of SRe2L's table, of the first seed that has one, by row and kind of model."""
    found = {row: [one.landscape for _, one in results.of("sre2l", row)] for row in results.experiments["sre2l"].rows}
    first = {row: next((known for known in landscapes if known), {}) for row, landscapes in found.items()}
    return {row: known for row, known in first.items() if known}


def _waiting(results: Results) -> list[str]:
    """Return what the plans name and no record holds yet: experiments, with the runs that are missing."""
    lines = []
    for experiment in results.experiments.values():
        missing = [run for run in experiment.runs() if run.name not in results.records]
        if missing:
            lines.append(f"{experiment.title}: {len(missing)} of {len(experiment.runs())} runs")
    return lines


def _head(kind: str, eps: float, before: str) -> str:
    label = f"{eps}/255" if eps else "clean"
    return label if kind == before else f"{KINDS[kind]}: {label}"
