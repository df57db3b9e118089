"""Empty text where a name or a path is meant, as a script leaves it whose variable is not set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from guard_plugins.config.given import given_values
from guard_plugins.errors import ConfigError


def refuse_empty(model: type[BaseModel], values: Mapping[str, Any]) -> None:
    """Refuse empty names and paths; an empty path would be the working folder, and an empty name the default.

    Args:
        model: The shared options; what else is in ``values`` is not looked at.
        values: What was given for it.

    Raises:
        ConfigError: If there is one.
    """
    for flag, kinds, value in given_values(model, values):
        texts = value if isinstance(value, list | tuple) else [value]
        if {str, Path} & kinds and any(isinstance(one, str) and not one.strip() for one in texts):
            raise ConfigError(f"{flag} is empty", do="Give a name or path, or leave it out; . is the working folder.")
