"""True and false where a number is meant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from guard_plugins.config.given import given_values
from guard_plugins.errors import ConfigError


def refuse_booleans(model: type[BaseModel], values: Mapping[str, Any]) -> None:
    """Refuse true and false where a number is meant; pydantic would read them as 1 and 0.

    Args:
        model: The configuration.
        values: What was given for it.

    Raises:
        ConfigError: If there is one.
    """
    for flag, kinds, value in given_values(model, values):
        if isinstance(value, bool) and bool not in kinds and {int, float} & kinds:
            raise ConfigError(f"{flag}: a number is needed, got {str(value).lower()}", do="Give a number in its place.")
