"""Builds the network of a checkpoint, whoever wrote it, for an evaluation outside of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from guard_plugins.artifacts.teacher import TeacherCard, teacher_file
from guard_plugins.artifacts.weights.closest import closest
from guard_plugins.artifacts.weights.files import card_of, read_content
from guard_plugins.artifacts.weights.load import load_any_teacher
from guard_plugins.artifacts.weights.published import find_published, is_published
from guard_plugins.artifacts.weights.unwrap import state_dict_in
from guard_plugins.errors import ConfigError
from guard_plugins.host.own_network import is_own_network
from guard_plugins.networks.normalised import Normalised, build_normalised
from guard_plugins.pipeline.standalone.class_order import order_hint
from guard_plugins.pipeline.standalone.consistency import require_data, require_no_contradiction
from guard_plugins.pipeline.standalone.request import GivenWeights
from guard_plugins.runtime.task import Task


def load_checkpoint(task: Task, path: Path, given: GivenWeights) -> tuple[Normalised, TeacherCard | None]:
    """Return the model in eval mode, and the card of a teacher that this project wrote.

    Args:
        task: Gives the data set, the networks and the device.
        path: A run, or a file of weights.
        given: What the options say of the weights.

    Raises:
        ConfigError: If the file is missing, says something else than the options, or does not fit the data set.
        ArtifactError: If it is damaged.
    """
    if is_published(path):
        found = find_published(path, download=task.config.download)
        path, given = (
            found.path,
            given.model_copy(
                update={key: getattr(found, key) for key in ("network", "mean", "std") if getattr(given, key) is None}
            ),
        )
    path = teacher_file(path)
    card = card_of(path)
    if card is not None:
        _refuse_code_named_by_a_file(path, card, given)
        require_no_contradiction(path, card, given)
        require_data(path, card, task.data)
    expected = card or _described(task, path, given)
    activation: Any = expected.activation
    model = build_normalised(task.networks[expected.network](), task.data, activation=activation)
    # The options beside a file of this project were compared with what it says; they are for other files.
    options = {} if card is not None else given.model_dump(include={"mean", "std", "classes"})
    loaded = load_any_teacher(path, model, expected, networks=task.networks, **options)
    model = task.engine.placed(model).eval().requires_grad_(False)
    said = [loaded.said] if loaded.said else []
    if card is None:
        said += order_hint(model, task.data)
    for line in said:
        task.monitor.say(line)
    return model, card


def _refuse_code_named_by_a_file(path: Path, card: TeacherCard, given: GivenWeights) -> None:
    if is_own_network(card.network) and given.network != card.network:
        raise ConfigError(
            f"{path} says that its network is code of your own, which is imported only where you name it yourself",
            seen=f"network {card.network}", do=f"Add --teacher.network {card.network}, if you trust that code.",
        )  # fmt: skip


def _described(task: Task, path: Path, given: GivenWeights) -> TeacherCard:
    """Return what the options say of weights from elsewhere."""
    if given.network is None:
        state = state_dict_in(read_content(path), path)
        near = closest(state.tensors, task.networks, image_shape=task.data.image_shape, classes=len(task.data.classes))
        raise ConfigError(
            f"{path} does not say which network its weights belong to",
            seen=f"closest by names and shapes: {', '.join(map(str, near))}" if near else "no known network is close",
            do="Name it with --teacher.network (guard-plugins --check lists the names), and give --teacher.mean and "
            "--teacher.std.",
        )
    return TeacherCard(
        network=given.network, activation=given.activation or "relu", image_shape=task.data.image_shape,
        classes=task.data.classes,
    )  # fmt: skip
