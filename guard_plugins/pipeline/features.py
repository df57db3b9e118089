"""Students that match the teacher's features, where ``--student.feature-weight`` asks: what must fit, what is said."""

from __future__ import annotations

from guard_plugins.config import RunConfig
from guard_plugins.errors import ConfigError
from guard_plugins.networks.embedding import WithFeatures
from guard_plugins.networks.normalised import Normalised
from guard_plugins.runtime.task import Task


def require_same_features(task: Task, teacher: Normalised | None) -> None:
    """Refuse students whose features cannot be compared with the teacher's.

    Args:
        task: Knows the students' network.
        teacher: Whose features are matched; None where there is none to ask.

    Raises:
        ConfigError: If a network has no linear layer, or the features differ in number.
    """
    settings = task.config.student
    if teacher is None or not settings.feature_weight:
        return
    student = task.network(settings.network, settings.activation, stage="student")
    own = WithFeatures(student, option="--student.network").last.in_features
    wanted = WithFeatures(teacher).last.in_features
    if own != wanted:
        raise ConfigError(
            "The students' features cannot be compared with the teacher's (--student.feature-weight)",
            seen=f"a student has {own} features, the teacher {wanted}",
            do="Give the students the teacher's network, or leave --student.feature-weight out.",
        )


def said_of_features(config: RunConfig) -> list[str]:
    """Return in a sentence that students match the teacher's features; none where they do not."""
    weight = config.student.feature_weight
    return [
        f"With --student.feature-weight {weight:g} students on soft labels match the teacher's features, too. Methods "
        "compared with each other need the same."
    ] if weight else []  # fmt: skip
