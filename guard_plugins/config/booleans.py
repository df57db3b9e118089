"""True and false where a number is meant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel

from guard_plugins.config.explain import flag
from guard_plugins.errors import ConfigError


def refuse_booleans(model: type[BaseModel], values: Mapping[str, Any], above: tuple[str, ...] = ()) -> None:
    """Refuse true and false where a number is meant; pydantic would read them as 1 and 0.

    Args:
        model: The configuration, or a section of it.
        values: What was given for it.
        above: Path of the section.

    Raises:
        ConfigError: If there is one.
    """
    for name, field in model.model_fields.items():
        value, kind = values.get(name), field.annotation
        if isinstance(value, bool) and bool not in kinds_of(kind) and {int, float} & kinds_of(kind):
            raise ConfigError(
                f"{flag((*above, name))}: a number is needed, got {str(value).lower()}",
                do="Give a number in its place.",
            )
        if isinstance(value, Mapping) and isinstance(kind, type) and issubclass(kind, BaseModel):
            refuse_booleans(kind, value, (*above, name))


def kinds_of(annotation: Any) -> set[Any]:
    """Return the plain types in an annotation, such as int and NoneType of ``PositiveInt | None``."""
    inner = get_args(annotation)
    return {annotation} if not inner else set().union(*map(kinds_of, inner))
