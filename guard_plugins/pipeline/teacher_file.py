"""The teacher a user gives in place of training one, and what a teacher says of itself."""

from __future__ import annotations

from pathlib import Path

from guard_plugins.artifacts.parts import HookReport
from guard_plugins.artifacts.teacher import TeacherCard, load_teacher, read_card, teacher_file
from guard_plugins.config import GuardConfig, RunConfig
from guard_plugins.data.base import Data
from guard_plugins.errors import ConfigError
from guard_plugins.networks.normalised import Normalised


def card_of(config: RunConfig, data: Data, *, guarded: bool = False, hook: HookReport | None = None) -> TeacherCard:
    """Return what a teacher of this configuration says of itself.

    Args:
        config: The resolved configuration.
        data: The real data, for image shape and classes.
        guarded: Whether it was trained under the curvature hook.
        hook: What the hook measured.
    """
    return TeacherCard(
        network=config.teacher.network, activation=config.teacher.activation, image_shape=data.image_shape,
        classes=data.classes, training=config.teacher.training,
        guard=config.guard.model_dump() if guarded else None, hook=hook,
    )  # fmt: skip


def load_given_teacher(config: RunConfig, data: Data, model: Normalised) -> TeacherCard:
    """Fill ``model`` from the file or run that ``--teacher`` names, and return the card of that teacher.

    Args:
        config: The resolved configuration; ``teacher.path`` is set.
        data: The real data.
        model: A fresh network of the configuration's architecture.

    Raises:
        ConfigError: If the teacher is of another network or data set, or was trained under the hook although the
            configuration asks for a plain one.
        ArtifactError: If the file is damaged.
    """
    assert config.teacher.path is not None
    path = teacher_file(config.teacher.path)
    if not config.guarded and read_card(path).guard is not None:
        raise ConfigError(
            f"The teacher {path} was trained under the curvature hook, but --no-guard asks for a plain one",
            do="Leave --no-guard out, or give a plain teacher.",
        )
    _require_agreement(config, path, read_card(path))
    return load_teacher(path, model, card_of(config, data, guarded=config.guarded))


def _require_agreement(config: RunConfig, path: Path, card: TeacherCard) -> None:
    """Refuse settings of objective and hook that say of a given teacher what its file does not.

    Raises:
        ConfigError: If one differs from both its default and the file.
    """
    asked, plain = config.guard.model_dump(), GuardConfig().model_dump()
    wrong = {
        f"--guard.{name}": (asked[name], (card.guard or {}).get(name))
        for name in ("weight", "penalty", "every")
        if asked[name] != plain[name] and asked[name] != (card.guard or {}).get(name)
    }
    if config.teacher.training not in ("plain", card.training):
        wrong["--teacher.training"] = (config.teacher.training, card.training)
    if wrong:
        seen = "; ".join(f"{name} {asked}, the teacher's is {said}" for name, (asked, said) in wrong.items())
        raise ConfigError(
            f"The teacher {path} was trained otherwise than {', '.join(wrong)} says (--teacher)",
            seen=seen, do="Leave these options out: a given teacher is taken as it is.",
        )  # fmt: skip
