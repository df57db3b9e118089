"""What a run's files say of their network and data, for an evaluation that was asked for with others."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from guard_plugins.artifacts.folder import RunFolder
from guard_plugins.artifacts.teacher import TeacherCard
from guard_plugins.config.yaml_file import read_yaml
from guard_plugins.data.base import Data
from guard_plugins.errors import ConfigError
from guard_plugins.pipeline.standalone.request import GivenWeights

_UNKNOWN: Final = "--dataset and --data-root of the data it was made from, with the same --data.image-size"


def require_data(path: Path, card: TeacherCard, data: Data) -> None:
    """Refuse a teacher of other data than the test images.

    Args:
        path: The teacher's file.
        card: What it says of itself.
        data: Where the test images are from.

    Raises:
        ConfigError: If shape or classes differ.
    """
    if (card.image_shape, card.classes) == (data.image_shape, data.classes):
        return
    raise ConfigError(
        f"{path} does not fit the data set {data.name!r} (--dataset, --data.image-size)",
        seen=f"it says of itself: images {card.image_shape}, {_named(card.classes)}; "
        f"the data set has {data.image_shape}, {_named(data.classes)}",
        do=f"Give {data_options(path.parent)}.",
    )


def require_no_contradiction(path: Path, card: TeacherCard, given: GivenWeights) -> None:
    """Refuse other settings of a network than those in a teacher's own file.

    Args:
        path: The teacher's file.
        card: What it says of itself.
        given: What was asked for by option.

    Raises:
        ConfigError: If they differ, or the normalisation or class order is given, which are in the file.
    """
    itself: dict[str, Any] = {"network": card.network, "activation": card.activation}
    for name in ("network", "activation", "mean", "std", "classes"):
        value = getattr(given, name)
        if value not in (None, itself.get(name)):
            says = f"that its {name} is {itself[name]}" if name in itself else f"what its {name} is"
            raise ConfigError(
                f"{path} says itself {says}, but --teacher.{name} says {_words(value)}",
                do=f"Leave --teacher.{name} out; it is for files that do not say it.",
            )


def data_options(run: Path) -> str:
    """Return the options of guard-eval that name the data of a run, or what they are where ``run`` does not say it."""
    found = _configuration(run)
    size = found["data"].get("image_size") if isinstance(found.get("data"), Mapping) else None
    values = {"--dataset": found.get("dataset"), "--data-root": found.get("data_root"), "--data.image-size": size}
    given = [str(part) for flag, value in values.items() if value is not None for part in (flag, value)]
    if not values["--dataset"]:
        return _UNKNOWN
    return shlex.join(given) + ("" if size else ", without --data.image-size")


def _configuration(run: Path) -> Mapping[str, Any]:
    """Return a run's configuration, or nothing: a hint must never become an error of its own."""
    try:
        content = read_yaml(RunFolder(run).config)
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return content if isinstance(content, Mapping) else {}


def _words(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _named(classes: tuple[str, ...]) -> str:
    return f"{len(classes)} classes ({', '.join(classes[:3])}{', ...' if len(classes) > 3 else ''})"
