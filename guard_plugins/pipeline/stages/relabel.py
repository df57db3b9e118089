"""Soft labels for all of a student's training, where they are to be stored (FKD)."""

from __future__ import annotations

from typing import Any

from guard_plugins.artifacts.ledger import file_hash
from guard_plugins.labels.relabel import relabel
from guard_plugins.labels.store import StoredLabels
from guard_plugins.pipeline.context import RunContext
from guard_plugins.pipeline.stage import Stage, StageOutput
from guard_plugins.training.recipes import recipe_of


class RelabelStage(Stage):
    """Relabel: leaves ``labels/``."""

    name = "relabel"
    memory_option = "--student.batch-size"

    def needed(self, run: RunContext) -> bool:
        """Return whether there are soft labels that are to be stored."""
        soft = run.prepared.method.labels in ("soft", "mean") and run.results.teacher is not None
        return soft and run.config.student.labels == "stored"

    def inputs(self, run: RunContext) -> list[Any]:
        """Return the images, the teacher's weights and the students' recipe."""
        source = [run.ledger.hashes("distill"), file_hash(run.folder.teacher)]
        return [source, run.settings("student", "seed", "device"), run.device_type, *run.other_teachers()]

    def do(self, run: RunContext) -> StageOutput:
        """Ask the teacher for every epoch of a student."""
        teacher = run.labeller()
        assert teacher is not None  # see `needed`
        files = relabel(
            run.task, run.results.distilled.decoded(), teacher, run.folder.labels, inputs=run.checkpoints.inputs
        )
        self.restore(run)
        return StageOutput(files)

    def share(self, run: RunContext) -> None:
        """Label this process's files."""
        self.do(run)

    def restore(self, run: RunContext) -> None:
        """Open the labels on disk."""
        decoded = run.results.distilled.decoded()
        labels = decoded.labels if recipe_of(run.config.student, run.task.recipes).hard else None
        run.results.stored = StoredLabels(
            run.folder.labels, decoded.images, run.task.device, labels=labels, augmentations=run.task.augmentations
        )
