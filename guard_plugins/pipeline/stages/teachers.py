"""The teachers after the first, where a method declares several; each is kept as soon as it is trained."""

from __future__ import annotations

from typing import Any

from guard_plugins.artifacts.ledger import fingerprint
from guard_plugins.pipeline.context import RunContext
from guard_plugins.pipeline.declared import described
from guard_plugins.pipeline.stage import Stage, StageOutput
from guard_plugins.pipeline.stages.teacher import SETTINGS
from guard_plugins.pipeline.teachers.training import Training


class TeachersStage(Stage):
    """Trains or reads the others: leaves ``teachers/``."""

    name = "teachers"
    memory_option = "--teacher.batch-size"

    def needed(self, run: RunContext) -> bool:
        """Return whether there is more than one teacher."""
        return len(run.prepared.teachers) > 1

    def inputs(self, run: RunContext) -> list[Any]:
        """Return the settings of data, teachers and hook."""
        _, *others = run.prepared.teachers
        return [run.settings(*SETTINGS), run.device_type, [described(spec) for spec in others]]

    def do(self, run: RunContext) -> StageOutput:
        """Train the teachers that no earlier process finished."""
        files, whole = [], run.checkpoints.inputs
        for number, spec in enumerate(run.prepared.teachers[1:], start=1):
            training, key = Training(run, number), f"{self.name}/{number}"
            # Their loops have one name: a state is only taken up by the teacher that left it.
            run.checkpoints.inputs = fingerprint(whole, number, described(spec))
            if run.ledger.why_redo(key, run.checkpoints.inputs) is None:
                trained, _ = training.read()
            else:
                trained, _ = training.do()
                run.ledger.finish(key, run.checkpoints.inputs, training.files)
            run.results.teachers += (trained,)
            files += training.files
        run.checkpoints.inputs = whole
        return StageOutput(files)

    def restore(self, run: RunContext) -> None:
        """Read the teachers of an earlier process."""
        for number in range(1, len(run.prepared.teachers)):
            run.results.teachers += (Training(run, number).read()[0],)
