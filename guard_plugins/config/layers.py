"""Settings from several places, laid over each other."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class Layer:
    """Settings from one place, such as the command line.

    Attributes:
        origin: Names the place in messages.
        values: Nested as in the YAML file.
        may_be_idle: Whether a setting may be here that does nothing in this run: ``no`` for what was given for this run
            alone, as flags are; ``unchanged`` for files and variables, where it is the value that holds anyway, such as
            a run's own config.yaml; ``yes`` for settings that serve several methods.
    """

    origin: str
    values: Mapping[str, Any]
    may_be_idle: Literal["no", "unchanged", "yes"] = "unchanged"


def merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings in which later layers win over earlier ones, key by key."""
    result: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            old = result.get(key)
            both = isinstance(old, Mapping) and isinstance(value, Mapping)
            result[key] = merged(old, value) if both else value  # type: ignore[arg-type]
    return result


def without(values: Mapping[str, Any], paths: Collection[tuple[str, ...]]) -> dict[str, Any]:
    """Return nested settings without those at the given paths; a section that is empty then is left out."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        if (key,) in paths:
            continue
        below = {path[1:] for path in paths if path[0] == key and len(path) > 1}
        kept = without(value, below) if below and isinstance(value, Mapping) else value
        if kept or not below:
            result[key] = kept
    return result


def files_of(layers: Sequence[Layer]) -> list[Path]:
    """Return the files that ``--plugin`` names in the strongest of some layers."""
    values = [layer.values["plugin"] for layer in layers if layer.values.get("plugin") is not None]
    last = values[-1] if values else []
    names = [last] if isinstance(last, str | Path) else last
    return [Path(name).expanduser() for name in names if name] if _are_paths(names) else []


def _are_paths(names: object) -> bool:
    # Anything else is for the check of the whole configuration, which says what is wrong.
    return isinstance(names, list | tuple) and all(isinstance(name, str | Path) for name in names)
