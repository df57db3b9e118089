"""Students, trained on the distilled set alone."""

from __future__ import annotations

from typing import Any

from guard_plugins.artifacts.atomic import made
from guard_plugins.artifacts.sets.distilled import load_pngs
from guard_plugins.artifacts.teacher import TeacherCard, write_teacher
from guard_plugins.pipeline.context import RunContext
from guard_plugins.pipeline.stage import Stage
from guard_plugins.pipeline.students.labels import Batches, labelled
from guard_plugins.pipeline.students.under_hook import under_hook
from guard_plugins.runtime.task import Task
from guard_plugins.training.learned import with_learned
from guard_plugins.training.student import share_students, train_students
from guard_plugins.training.student_batches import online


class StudentsStage(Stage):
    """Trains students on the method's labels, and others on the stored PNGs with hard labels; kept on disk if asked."""

    name = "students"
    memory_option = "--student.batch-size"

    def inputs(self, run: RunContext) -> list[Any]:
        """Return the images, and the settings of the data, of the teacher's labels and of the students' recipe."""
        data = run.settings("dataset", "data_root", "data", "guard", "no_guard")
        settings = run.settings("student", "teacher", "seed", "evaluation", "device")
        return [run.ledger.hashes("distill"), data, settings, run.device_type, *run.other_teachers()]

    def do(self, run: RunContext) -> None:
        """Train the students; those of an interrupted process go on from their checkpoints."""
        teacher = run.results.teacher
        task, soft, hard = _batches(run)
        with under_hook(task) as hooked:
            if task.keeper.shares:
                share_students(hooked, {"student": soft, "student-hard": hard})
            run.results.models = {
                "teacher": [teacher] if teacher else [],
                "student": train_students(hooked, soft, name="student"),
                "student_hard": train_students(hooked, hard, name="student-hard"),
            }
        if run.config.keep_students and task.keeper.share is None:
            _keep(run)

    def share(self, run: RunContext) -> None:
        """Train this process's students; an item is a student."""
        task, soft, hard = _batches(run)
        with under_hook(task) as hooked:
            share_students(hooked, {"student": soft, "student-hard": hard})


def _batches(run: RunContext) -> tuple[Task, Batches, Batches]:
    """Return the students' task, and the batches of those on the method's labels and of those on hard labels."""
    task = with_learned(run.task, run.results.distilled, given=run.given_of_students())
    return task, _labelled(run, task), online(task, load_pngs(run.folder.distilled), None)


def _keep(run: RunContext) -> None:
    """Write the students as files that guard-eval takes."""
    config, data = run.config, run.prepared.data
    card = TeacherCard(
        network=config.student.network or config.teacher.network,
        activation=config.student.activation or config.teacher.activation, image_shape=data.image_shape,
        classes=data.classes,
    )  # fmt: skip
    for kind in ("student", "student_hard"):
        for number, model in enumerate(run.results.models[kind]):
            path = run.folder.student(number, hard=kind == "student_hard")
            made(path.parent)
            write_teacher(path, model, card, who="student")


def _labelled(run: RunContext, task: Task) -> Batches:
    stored = run.results.stored
    if stored is not None:
        return lambda stage: stored
    return labelled(run, task, run.results.distilled, run.labeller())
