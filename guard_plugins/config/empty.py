"""Empty text where a name or a path is meant, as a script leaves it whose variable is not set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from guard_plugins.config.booleans import kinds_of
from guard_plugins.config.explain import flag
from guard_plugins.errors import ConfigError


def refuse_empty(model: type[BaseModel], values: Mapping[str, Any], above: tuple[str, ...] = ()) -> None:
    """Refuse empty names and paths; an empty path would be the working folder, and an empty name the default.

    Args:
        model: The shared options, or a section of them; what else is in ``values`` is not looked at.
        values: What was given for it.
        above: Path of the section.

    Raises:
        ConfigError: If there is one.
    """
    for name, field in model.model_fields.items():
        value, kind = values.get(name), field.annotation
        given = value if isinstance(value, list | tuple) else [value]
        if {str, Path} & kinds_of(kind) and any(isinstance(one, str) and not one.strip() for one in given):
            raise ConfigError(
                f"{flag((*above, name))} is empty",
                do="Give a name or path, or leave it out; . is the working folder.",
            )
        if isinstance(value, Mapping) and isinstance(kind, type) and issubclass(kind, BaseModel):
            refuse_empty(kind, value, (*above, name))
