"""Settings from several places, laid over each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Layer:
    """Settings from one place, such as the command line.

    Attributes:
        origin: Names the place in messages.
        values: Nested as in the YAML file.
        explicit: Whether they were given for this run alone, as flags are; files and variables may serve several runs.
    """

    origin: str
    values: Mapping[str, Any]
    explicit: bool = False


def merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings in which later layers win over earlier ones, key by key."""
    result: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            old = result.get(key)
            both = isinstance(old, Mapping) and isinstance(value, Mapping)
            result[key] = merged(old, value) if both else value  # type: ignore[arg-type]
    return result
