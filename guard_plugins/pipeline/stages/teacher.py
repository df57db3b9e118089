"""The teacher: trained by the method's loop under the hook, or taken from a file."""

from __future__ import annotations

from typing import Any

from guard_plugins.artifacts.teacher import TeacherCard, load_teacher, write_teacher
from guard_plugins.artifacts.weights.load import UNKNOWN
from guard_plugins.networks.normalised import Normalised
from guard_plugins.pipeline.context import RunContext
from guard_plugins.pipeline.guard import hook_report
from guard_plugins.pipeline.plugin_calls import calling
from guard_plugins.pipeline.stage import Stage, Written
from guard_plugins.pipeline.standalone.class_order import order_hint
from guard_plugins.pipeline.teacher_file import card_of, load_given_teacher

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
        return [run.settings(*SETTINGS), run.device_type]

    def do(self, run: RunContext) -> Written:
        """Train or load the teacher."""
        model = run.task.network(stage="teacher")
        given = run.config.teacher.path is not None
        card = _given(run, model) if given else _train(run, model)
        write_teacher(run.folder.teacher, model, card)
        _keep(run, model, card)
        return Written([run.folder.teacher])

    def restore(self, run: RunContext) -> None:
        """Read the teacher of an earlier process."""
        model = run.task.network(stage="teacher")
        _keep(run, model, load_teacher(run.folder.teacher, model, run.results.card))


def _given(run: RunContext, model: Normalised) -> TeacherCard:
    loaded = load_given_teacher(run.config, run.prepared.data, model, networks=run.task.networks)
    hints = order_hint(model, run.prepared.data) if loaded.card.training == UNKNOWN else []
    for line in filter(None, (loaded.said, *hints)):
        run.task.monitor.say(line)
    return loaded.card


def _train(run: RunContext, model: Normalised) -> TeacherCard:
    prepared = run.prepared
    with calling(prepared.plugin, "train_teacher", run=run.folder.path):
        prepared.method.train_teacher(run.task, model)
    return card_of(run.config, prepared.data, guarded=prepared.hook is not None, hook=hook_report(prepared.hook))


def _keep(run: RunContext, model: Normalised, card: TeacherCard) -> None:
    run.results.teacher, run.results.card = model.eval().requires_grad_(False), card
