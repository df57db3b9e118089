"""The distilled set, by the method."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from guard_plugins.artifacts.contact_sheet import save_contact_sheet
from guard_plugins.artifacts.ledger import file_hash
from guard_plugins.artifacts.sets.distilled import load_distilled, save_distilled
from guard_plugins.pipeline.context import RunContext
from guard_plugins.pipeline.guard import hook_report
from guard_plugins.pipeline.plugin_calls import calling, checked_set
from guard_plugins.pipeline.stage import Stage, StageOutput
from guard_plugins.pipeline.students.validation import Validator

SETTINGS = ("method", "ipc", "seed", "device", "dataset", "data_root", "data", "guard", "no_guard", "teacher")


class DistillStage(Stage):
    """Recover, match, or whatever the method does: leaves ``distilled/`` and a contact sheet."""

    name = "distill"
    memory_option = "the method's batch size, or --ipc"

    def inputs(self, run: RunContext) -> list[Any]:
        """Return the teacher's weights, the settings of the data, and the method's own options."""
        teacher = file_hash(run.folder.teacher) if run.results.teacher else None
        return [teacher, run.settings(*run.prepared.own_options, *SETTINGS), run.device_type, *run.other_teachers()]

    def do(self, run: RunContext) -> StageOutput:
        """Distil, and check what the method returned."""
        prepared, folder, helpers = run.prepared, run.folder, run.task.keeper.helpers
        if helpers is not None and helpers.ahead and run.results.teacher is not None:
            helpers.ask_ahead("evaluation")  # attacks on the teacher need no set
        validator = Validator(run) if run.config.distill.validate_every else None
        with calling(prepared.plugin, "distill", run=folder.path):
            task = replace(run.task, teachers=run.results.teachers, validator=validator)
            returned = prepared.method.distill(task, run.results.teacher)
            run.results.distilled = checked_set(prepared.plugin, returned, run.task)
        files = save_distilled(folder.distilled, run.results.distilled, prepared.data.classes)
        save_contact_sheet(folder.contact_sheet, run.results.distilled)
        measured = hook_report(prepared.hook)
        notes: dict[str, Any] = {"hook": measured and measured.model_dump()}
        if validator is not None:
            notes["validation"] = [found.model_dump() for found in validator.results]
            if not validator.results:
                run.task.monitor.say("warning: no loop of the method offered its images, so nothing was validated")
        return StageOutput([*files, folder.contact_sheet], notes)

    def share(self, run: RunContext) -> None:
        """Make this process's items of the method."""
        with calling(run.prepared.plugin, "distill", run=run.folder.path):
            run.prepared.method.distill(replace(run.task, teachers=run.results.teachers), run.results.teacher)

    def restore(self, run: RunContext) -> None:
        """Read the set of an earlier process."""
        run.results.distilled = load_distilled(run.folder.distilled)
