"""A trained teacher on disk: safetensors with what is needed to rebuild and trust it in the metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import torch
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from guard_plugins.artifacts.folder import RunFolder
from guard_plugins.artifacts.parts import HookReport
from guard_plugins.artifacts.tensors import write_tensors
from guard_plugins.errors import ConfigError, DamagedError, TrainingError
from guard_plugins.files import regular
from guard_plugins.networks.normalised import Normalised

_WEIGHT: Final = {"teacher": "--guard.weight", "student": "--student.guard-weight"}


class TeacherCard(BaseModel):
    """What a teacher's file says of itself.

    Attributes:
        network: Its architecture.
        activation: Its activation function.
        image_shape: (C, H, W) of its input.
        classes: Names of its classes.
        training: Its objective (``plain`` or a rival of the hook).
        guard: Settings of the curvature hook it was trained under, or None.
        hook: What the hook measured during training, or None.
        processes: How many processes trained it together, to its end.
        batchnorm: Whether BatchNorm had statistics of the whole batch (``global``) or of each process's part.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    network: str
    activation: str
    image_shape: tuple[int, int, int]
    classes: tuple[str, ...]
    training: str = "plain"
    guard: dict[str, Any] | None = None
    hook: HookReport | None = None
    processes: int = 1
    batchnorm: str = "global"

    def as_json(self) -> str:
        """Return the card as JSON; what is only known of several processes is left out for one."""
        return self.model_dump_json(exclude={"processes", "batchnorm"} if self.processes == 1 else set())


def write_teacher(path: Path, model: Normalised, card: TeacherCard, *, who: str = "teacher") -> None:
    """Write a teacher, or a student in the same form.

    Args:
        path: File to write.
        model: The network.
        card: What is told of it.
        who: What errors call it: teacher or student.

    Raises:
        ArtifactError: If the file cannot be written.
        TrainingError: If a weight is not a finite number.
    """
    require_finite_weights(model, who)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    write_tensors(path, tensors, {"format": "pt", "teacher": card.as_json()})


def require_finite_weights(model: Normalised, who: str) -> None:
    """Refuse a network with a weight that is not a finite number: the last step went wrong, and no later loss told.

    Raises:
        TrainingError: If there is one.
    """
    tensors = model.state_dict()
    bad = [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
    if bad:
        raise TrainingError(
            f"The {who}'s training ended in weights that are not finite numbers",
            seen=f"{len(bad)} of {len(tensors)} tensors, such as {bad[0]}",
            do=calmer(who),
        )


def calmer(who: str) -> str:
    """Return what to do where the training of a ``teacher`` or ``student`` diverged."""
    return f"Lower --{who}.lr, or the weight of the curvature term ({_WEIGHT[who]})."


def teacher_file(path: Path) -> Path:
    """Return the file of weights that ``path``, a file or a run's folder, stands for.

    Raises:
        ConfigError: If it is a folder without one.
    """
    if not path.is_dir():
        return path
    file = RunFolder(path).teacher
    if not file.is_file():
        raise ConfigError(
            f"The folder {path} holds no {file.name}",
            seen="a run leaves it once its teacher is trained; a method without a teacher leaves none",
            do="Give another run, or a file of weights; guard-eval takes images with --distilled.",
        )
    return file


def read_card(path: Path) -> TeacherCard:
    """Return what the file at ``path`` says of itself.

    Raises:
        ConfigError: If there is no such file.
        ArtifactError: If it is not a teacher this project wrote.
    """
    if not path.is_file():
        raise ConfigError(f"There is no teacher {path} (--teacher)", do="Give a run, or its teacher.safetensors.")
    try:
        with safe_open(regular(path), framework="pt") as file:
            return TeacherCard.model_validate(json.loads((file.metadata() or {})["teacher"]))
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RecursionError) as error:
        raise DamagedError(
            f"{path} is not a teacher written by guard-run, or it is damaged (--teacher)",
            seen=f"{type(error).__name__}: {error}", do="Give the teacher.safetensors of a finished run.",
        ) from error  # fmt: skip


def load_teacher(path: Path, model: Normalised, expected: TeacherCard) -> TeacherCard:
    """Load a teacher's weights into ``model``.

    Args:
        path: The file.
        model: A network of the same architecture.
        expected: What the run needs; ``guard`` and ``hook`` are not compared.

    Returns:
        What the file says of itself.

    Raises:
        ConfigError: If the file is missing or holds another kind of teacher.
        ArtifactError: If it is damaged.
    """
    card = read_card(path)
    for name in ("network", "activation", "image_shape", "classes"):
        if getattr(card, name) != getattr(expected, name):
            raise ConfigError(
                f"The teacher {path} does not fit this run: its {name.replace('_', ' ')} differs (--teacher)",
                seen=f"file: {getattr(card, name)}, run: {getattr(expected, name)}",
                do=f"Use --teacher.network {card.network} --teacher.activation {card.activation}, and the same data."
                if name in ("network", "activation")
                else "Use the data it was trained on (--dataset, --data-root, --data.image-size), or another teacher.",
            )
    try:
        model.load_state_dict(load_file(regular(path)))
    except (RuntimeError, SafetensorError) as error:
        raise DamagedError(f"The weights in {path} do not fit its own description", seen=str(error)) from error
    return card
