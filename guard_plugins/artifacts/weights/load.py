"""Loads any teacher: one that guard-run wrote, or the weights of another code base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from guard_plugins.artifacts.teacher import TeacherCard, load_teacher, teacher_file
from guard_plugins.artifacts.weights.classes import read_order, reorder
from guard_plugins.artifacts.weights.files import card_of, read_content
from guard_plugins.artifacts.weights.fill import Wanted, fill
from guard_plugins.artifacts.weights.unwrap import state_dict_in
from guard_plugins.errors import ConfigError

if TYPE_CHECKING:
    from guard_plugins.networks.base import Network
    from guard_plugins.networks.normalised import Normalised

UNKNOWN = "unknown"
"""What a card says of the training of weights from elsewhere."""


@dataclass(frozen=True)
class Loaded:
    """A teacher that was loaded.

    Attributes:
        card: What is known of it.
        said: What was made of a file from another code base, as a sentence; empty for a teacher of a run.
    """

    card: TeacherCard
    said: str = ""


def load_any_teacher(
    path: Path,
    model: Normalised,
    expected: TeacherCard,
    *,
    networks: Mapping[str, type[Network]],
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    classes: Path | None = None,
) -> Loaded:
    """Load the weights in a file, or in a run's folder, into ``model``.

    Args:
        path: A run, its teacher.safetensors, any other .safetensors, or a file that ``torch.save`` wrote.
        model: A network of the expected architecture, with the data set's normalisation.
        expected: The architecture, images and classes.
        networks: All architectures by name, for hints.
        mean: Per-channel mean that weights from elsewhere were trained with; the file's or the data set's where None.
        std: Per-channel standard deviation, likewise.
        classes: File with the names of the classes in the order of the weights' outputs; the data set's where None.

    Returns:
        The card, with ``guard`` None and ``training`` "unknown" for weights from elsewhere, and what was unwrapped.

    Raises:
        ConfigError: If there is no such file, it holds no weights, or they do not fit.
        ArtifactError: If a teacher of a run is damaged.
    """
    path = teacher_file(path)
    if card_of(path) is not None:
        options = {"--teacher.mean": mean, "--teacher.std": std, "--teacher.classes": classes}
        given = [name for name, value in options.items() if value is not None]
        if given:
            raise ConfigError(
                f"{path} was written by this project and says how it normalises and what its classes are, so "
                f"{', '.join(given)} cannot be given",
                do="Leave the options out.",
            )
        return Loaded(load_teacher(path, model, expected))
    wanted = Wanted(expected.network, expected.image_shape, len(expected.classes), networks, mean, std)
    beside = mean is None and std is None  # what is given by option counts
    notes = fill(model, state_dict_in(read_content(path), path, beside=beside), wanted, path)
    if classes is not None:
        reorder(model, read_order(classes, expected.classes), expected.image_shape)
        notes.append(f"put the outputs from the order of {classes} into the data set's")
    card = expected.model_copy(update={"guard": None, "hook": None, "training": UNKNOWN})
    return Loaded(card, f"{path}: {'; '.join(notes)}" if notes else "")
