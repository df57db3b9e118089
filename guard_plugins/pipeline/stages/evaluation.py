"""Attacks on the run's models, and the release gate."""

from __future__ import annotations

from typing import Any, Final

from guard_plugins.artifacts.ledger import fingerprint
from guard_plugins.evaluation.assess import Assessed, assess, step_length
from guard_plugins.evaluation.measure import Attacked, share_attacks
from guard_plugins.pipeline.context import RunContext
from guard_plugins.pipeline.stage import Stage
from guard_plugins.pipeline.students.under_hook import step_of_students
from guard_plugins.runtime.items import do_items
from guard_plugins.runtime.keeping.checkpoints import Checkpoints

ATTACKED: Final = ("dataset", "data_root", "data", "evaluation", "seed", "device")
"""Settings that results of attacks on a given model depend on."""


class EvaluationStage(Stage):
    """Attacks teacher and students; an interrupted process's finished attacks are kept with the checkpoints."""

    name = "evaluation"
    plugins = ("methods", "datasets", "networks", "recipes", "augmentations", "attacks")
    memory_option = "--evaluation.batch-size"

    def inputs(self, run: RunContext) -> list[Any]:
        """Return what the students and the attacks depend on."""
        settings = run.config.model_dump(mode="json", exclude={"preset", "plugin", "distill"})
        return [
            run.ledger.hashes("teacher"),
            run.ledger.hashes("distill"),
            settings,
            run.device_type,
            *run.other_teachers(),
        ]

    def do(self, run: RunContext) -> None:
        """Attack every kind of model."""
        if run.task.keeper.shares:
            self.share(run)
        run.results.findings = {kind: _assessed(run, kind) for kind, several in run.results.models.items() if several}

    def share(self, run: RunContext) -> None:
        """Do this process's attacks, then its part of what needs their results.

        An item is a model, an attack and a radius, then curvature and gate of a kind of model.
        """
        models = run.results.models
        kinds = [Attacked(_label(kind), several, _kept(run, kind)) for kind, several in models.items()]
        share_attacks(run.task, kinds, run.prepared.protocol, run.prepared.host.attacks)
        _share_gate(run)

    def ahead(self, run: RunContext) -> None:
        """Do this process's attacks on the teacher, before there is a set.

        Raises:
            ShareDone: When they are done.
        """
        teacher = run.results.teacher
        assert teacher is not None  # nobody asks otherwise
        kinds = [Attacked(_label("teacher"), [teacher], _kept(run, "teacher"))]
        share_attacks(run.task, kinds, run.prepared.protocol, run.prepared.host.attacks)


def _share_gate(run: RunContext) -> None:
    kinds = [kind for kind, several in run.results.models.items() if several]
    names, kept = [f"item/assessment/{_label(kind)}" for kind in kinds], run.checkpoints

    def make(number: int) -> None:
        _assessed(run, kinds[number])  # leaves its parts with the checkpoints
        kept.save(names[number], 1, dict)

    do_items(
        run.task.keeper, names, done=lambda number: kept.peek(names[number]) is not None, make=make,
        say=run.task.monitor.say,
    )  # fmt: skip


def _assessed(run: RunContext, kind: str) -> Assessed:
    """Attack the models of a kind, and put the first through the gate; what was done before is read."""
    models = run.results.models
    # Students that learned hard labels from the PNGs without the hook are the undefended network that attacks are
    # transferred from.
    step = step_of_students(run.config)
    undefended = None if step else models["student_hard"][0]
    own = None if kind == "teacher" else step
    teacher = next(iter(models["teacher"]), None)
    teacher = None if run.labels == "own" else teacher  # the students learned none of its labels
    return assess(
        run.task, models[kind], run.prepared.protocol, run.prepared.host.attacks, name=_label(kind),
        h=step_length(None, own, run.prepared.data.image_shape) if own else probe_length(run),
        hooked=own is not None or (kind == "teacher" and run.results.card.guard is not None),
        probed=kind != "student_hard" or own is not None, source=undefended,
        teacher=teacher if kind == "student" else None, kept=_kept(run, kind),
    )  # fmt: skip


def _kept(run: RunContext, kind: str) -> Checkpoints:
    """Return where results of attacks on models of a kind go: those on the teacher do not depend on the set."""
    if kind != "teacher":
        return run.checkpoints
    origins = run.origins(("datasets", "networks", "attacks"))
    return run.checkpoints.under(
        fingerprint("teacher", run.ledger.hashes("teacher"), run.settings(*ATTACKED), run.device_type, *origins)
    )


def _label(kind: str) -> str:
    """Return what progress bars and seeds call the models of a kind."""
    return kind.replace("_", "-")


def probe_length(run: RunContext) -> float:
    """Return the L2 length, in pixel units, of the step along which curvature is measured: the teacher's h."""
    guard = run.results.card.guard or run.config.guard.model_dump()
    return step_length(guard["h"], guard["h_rms"], run.prepared.data.image_shape)
