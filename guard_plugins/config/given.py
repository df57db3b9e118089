"""What was given for a configuration, value by value, before pydantic reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel

from guard_plugins.config.explain import flag


class Given(NamedTuple):
    """A value that was given, or None.

    Attributes:
        flag: The option, as a user types it.
        kinds: The plain types it may have, such as int and NoneType of ``PositiveInt | None``.
        value: The value.
    """

    flag: str
    kinds: set[Any]
    value: Any


def given_values(model: type[BaseModel], values: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[Given]:
    """Yield every option of a configuration and of its sections; what else is in ``values`` is passed over.

    Args:
        model: The configuration, or a section of it.
        values: What was given for it.
        above: Path of the section.
    """
    for name, field in model.model_fields.items():
        value, kind = values.get(name), field.annotation
        yield Given(flag((*above, name)), _kinds_of(kind), value)
        if isinstance(value, Mapping) and isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from given_values(kind, value, (*above, name))


def _kinds_of(annotation: Any) -> set[Any]:
    inner = get_args(annotation)
    return {annotation} if not inner else set().union(*map(_kinds_of, inner))
