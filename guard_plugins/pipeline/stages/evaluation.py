"""Attacks on the run's models, and the release gate."""

from __future__ import annotations

from typing import Any

from guard_plugins.evaluation.assess import assess, step_length
from guard_plugins.evaluation.measure import share_attacks
from guard_plugins.pipeline.context import RunContext
from guard_plugins.pipeline.stage import Stage


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
        models = run.results.models
        if run.task.keeper.ranks is not None:
            self.share(run)
        # Students that learned hard labels from the PNGs are the undefended network that attacks are transferred from.
        undefended, teacher = models["student_hard"][0], next(iter(models["teacher"]), None)
        teacher = None if run.labels == "own" else teacher  # the students learned none of its labels
        run.results.findings = {
            kind: assess(
                run.task, several, run.prepared.protocol, run.prepared.host.attacks, name=_label(kind),
                h=probe_length(run), hooked=kind == "teacher" and run.results.card.guard is not None,
                probed=kind != "student_hard", source=undefended, teacher=teacher if kind == "student" else None,
            )
            for kind, several in models.items()
            if several
        }  # fmt: skip

    def share(self, run: RunContext) -> None:
        """Do this process's attacks; an item is a model, an attack and a radius."""
        models = {_label(kind): several for kind, several in run.results.models.items()}
        share_attacks(run.task, models, run.prepared.protocol, run.prepared.host.attacks)


def _label(kind: str) -> str:
    """Return what progress bars and seeds call the models of a kind."""
    return kind.replace("_", "-")


def probe_length(run: RunContext) -> float:
    """Return the L2 length, in pixel units, of the step along which curvature is measured: the teacher's h."""
    guard = run.results.card.guard or run.config.guard.model_dump()
    return step_length(guard["h"], guard["h_rms"], run.prepared.data.image_shape)
