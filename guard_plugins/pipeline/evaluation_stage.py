"""The last stage of a run: attacks on its models, the gate, and the pictures of the report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from guard_plugins.artifacts.figures import save_figures
from guard_plugins.artifacts.teacher import TeacherCard
from guard_plugins.attacks.base import Attack
from guard_plugins.evaluation.assess import Assessed, assess, step_length
from guard_plugins.evaluation.figures import collect
from guard_plugins.evaluation.protocols import Protocol
from guard_plugins.networks.normalised import Normalised
from guard_plugins.runtime.memory import memory_asked_by
from guard_plugins.runtime.task import Task


def assess_kinds(
    task: Task, kinds: dict[str, list[Normalised]], protocol: Protocol,
    attacks: Mapping[str, type[Attack]], card: TeacherCard,
    *, figures: Path,
) -> dict[str, Assessed]:  # fmt: skip
    """Return what was found out about the models of each kind.

    Args:
        task: Gives data, settings, device and progress.
        kinds: The run's ``teacher``, ``student`` and ``student_hard`` models; a kind may have none.
        protocol: The attacks.
        attacks: All attacks by name.
        card: What the teacher says of itself, for the length of the hook's probe step.
        figures: File for what the report draws.

    Raises:
        GuardError: If a prediction is not finite.
    """
    guard = card.guard or task.config.guard.model_dump()
    h = step_length(guard["h"], guard["h_rms"], task.data.image_shape)
    undefended, known = kinds["student_hard"][0], {"student": next(iter(kinds["teacher"]), None)}
    with task.monitor.stage("evaluation"), memory_asked_by("--evaluation.batch-size"):
        found = {
            name: assess(
                task, models, protocol, attacks, name=name.replace("_", "-"), h=h,
                hooked=name == "teacher" and card.guard is not None, probed=models[0] is not undefended,
                source=undefended, teacher=known.get(name),
            )
            for name, models in kinds.items()
            if models
        }  # fmt: skip
    with task.monitor.stage("figures"):
        shown = {name: kinds[name][0] for name in found if name != "student_hard"}
        curvatures = {name: found[name].curvature for name in shown}
        save_figures(figures, collect(task, shown, curvatures, radii=found["student"].report.radii(), h=h))
    return found
