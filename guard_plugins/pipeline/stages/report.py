"""The report: numbers as JSON, Markdown and one page."""

from __future__ import annotations

from typing import Any

from guard_plugins.artifacts.report import Models, Report, Skipped, read_report
from guard_plugins.evaluation.metrics import metrics_of
from guard_plugins.pipeline.context import RunContext
from guard_plugins.pipeline.features import said_of_features
from guard_plugins.pipeline.stage import Stage, StageOutput
from guard_plugins.pipeline.students.under_hook import said_of_hook
from guard_plugins.report.write import publish
from guard_plugins.training.learned import said_of_learned


class ReportStage(Stage):
    """Leaves ``report.json``, ``report.md`` and ``report.html``; its record covers the other stages' files too."""

    name = "report"
    plugins = ("methods", "datasets", "networks", "recipes", "augmentations", "attacks")
    timed = False  # it holds the times of the others, and cannot hold its own

    def inputs(self, run: RunContext) -> list[Any]:
        """Return the whole configuration."""
        return [run.config.model_dump(mode="json", exclude={"plugin"})]

    def do(self, run: RunContext) -> StageOutput:
        """Gather what the stages found."""
        run.results.report = _report(run)
        publish(run.folder, run.results.report)
        return StageOutput([run.folder.report, *run.earlier_files()])

    def restore(self, run: RunContext) -> None:
        """Read the report of a finished run."""
        run.results.report = read_report(run.folder.report)


def _report(run: RunContext) -> Report:
    config, prepared, card, findings = run.config, run.prepared, run.results.card, run.results.findings
    reports = {kind: findings[kind].report if kind in findings else None for kind in Models.model_fields}
    models, plain = Models.model_validate(reports), card.guard is None and card.training == "plain"
    return Report(
        method=config.method, dataset=prepared.data.name, ipc=config.ipc, seed=config.seed,
        protocol=prepared.protocol.name, notes=[*prepared.protocol.notes, *_notes(run)], training=card.training,
        guard=card.guard, models=models, metrics=metrics_of(models, plain=plain),
        hook=card.hook or run.ledger.notes("distill").get("hook"),
        gate={kind: found.gate for kind, found in findings.items()},
        curvature={kind: found.summary() for kind, found in findings.items()},
        seconds=run.task.monitor.total_seconds(), saves=run.checkpoints.cost(run.task.monitor.seconds),
        skipped=Skipped.of(prepared.data.skipped), learned_from=run.labels,
        validation=run.ledger.notes("distill").get("validation", []),
        reported={k: v for stage in run.finished for k, v in run.ledger.notes(stage).get("reported", {}).items()},
    )  # fmt: skip


def _notes(run: RunContext) -> list[str]:
    """Return what a reader must know about the distilled set and its students."""
    found = run.results.distilled
    config, given = run.config, run.given_of_students()
    notes = [*said_of_hook(config), *said_of_features(config), *said_of_learned(run.task, found, given=given)]
    if found.views is not None:
        notes.append(
            f"The budget is {len(found.labels)} stored images, {found.images.numel():,} stored pixels (channels "
            f"counted). Students read {found.per_image} training images from each of them."
        )
    return notes
