"""The teacher: trained by the method's loop under the hook, or taken from a file."""

from __future__ import annotations

from typing import Any

from guard_plugins.artifacts.teacher import TeacherCard, write_teacher
from guard_plugins.artifacts.weights.load import UNKNOWN
from guard_plugins.networks.normalised import Normalised
from guard_plugins.pipeline.context import RunContext
from guard_plugins.pipeline.declared import described
from guard_plugins.pipeline.stage import Stage, StageOutput
from guard_plugins.pipeline.standalone.class_order import order_hint
from guard_plugins.pipeline.teacher_file import load_given_teacher
from guard_plugins.pipeline.teachers.training import Training
from guard_plugins.runtime.teachers import TrainedTeacher

SETTINGS = ("dataset", "data_root", "data", "seed", "teacher", "guard", "no_guard", "method", "device")


class TeacherStage(Stage):
    """Squeeze: leaves ``teacher.safetensors``."""

    name = "teacher"
    memory_option = "--teacher.batch-size"

    def needed(self, run: RunContext) -> bool:
        """Return whether the method distils from a teacher."""
        return run.prepared.method.uses_teacher

    def inputs(self, run: RunContext) -> list[Any]:
        """Return the settings of data, teacher and hook."""
        return [run.settings(*SETTINGS), run.device_type, *described(run.prepared.teachers[0])]

    def do(self, run: RunContext) -> StageOutput:
        """Train or load the teacher."""
        if run.config.teacher.path is None:
            training = Training(run, 0)
            _keep(run, *training.do())
            return StageOutput(training.files)
        model = run.task.network(stage="teacher")
        card = _given(run, model)
        write_teacher(run.folder.teacher, model, card)
        _keep(run, TrainedTeacher(run.prepared.teachers[0], model.eval().requires_grad_(False), lambda epoch: {}), card)
        return StageOutput([run.folder.teacher])

    def restore(self, run: RunContext) -> None:
        """Read the teacher of an earlier process."""
        _keep(run, *Training(run, 0).read())


def _given(run: RunContext, model: Normalised) -> TeacherCard:
    loaded = load_given_teacher(run.config, run.prepared.data, model, networks=run.task.networks)
    hints = order_hint(model, run.prepared.data) if loaded.card.training == UNKNOWN else []
    for line in filter(None, (loaded.said, *hints)):
        run.task.monitor.say(line)
    return loaded.card


def _keep(run: RunContext, trained: TrainedTeacher, card: TeacherCard) -> None:
    run.results.teacher, run.results.teachers, run.results.card = trained.model, (trained,), card
