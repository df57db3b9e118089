"""The teacher a user gives in place of training one, and what a teacher says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from guard_plugins.artifacts.parts import HookReport
from guard_plugins.artifacts.teacher import TeacherCard, teacher_file
from guard_plugins.artifacts.weights.load import Loaded, load_any_teacher
from guard_plugins.artifacts.weights.published import find_published, is_published
from guard_plugins.config import GuardConfig, RunConfig
from guard_plugins.data.base import Data
from guard_plugins.errors import ConfigError
from guard_plugins.networks.base import Network
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


def load_given_teacher(
    config: RunConfig, data: Data, model: Normalised, *, networks: Mapping[str, type[Network]]
) -> Loaded:
    """Fill ``model`` from the run, or the weights of any code base, that ``--teacher`` names.

    Args:
        config: The resolved configuration; ``teacher.path`` is set.
        data: The real data.
        model: A fresh network of the configuration's architecture.
        networks: All architectures by name, for hints.

    Raises:
        ConfigError: If the teacher is of another network or data set, or was trained under the hook although the
            configuration asks for a plain one.
        ArtifactError: If the file is damaged.
    """
    assert config.teacher.path is not None
    path, given = config.teacher.path, config.teacher
    if is_published(path):
        found = find_published(path, download=config.download)
        path, given = (
            found.path,
            given.model_copy(
                update={key: getattr(found, key) for key in ("mean", "std") if getattr(given, key) is None}
            ),
        )
    path = teacher_file(path)
    loaded = load_any_teacher(
        path, model, card_of(config, data, guarded=config.guarded), networks=networks, mean=given.mean, std=given.std,
        classes=given.classes,
    )  # fmt: skip
    if not config.guarded and loaded.card.guard is not None:
        raise ConfigError(
            f"The teacher {path} was trained under the curvature hook, but --no-guard asks for a plain one",
            do="Leave --no-guard out, or give a plain teacher.",
        )
    _require_agreement(config, path, loaded.card)
    return loaded


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
