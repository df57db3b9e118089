"""Turns pydantic's validation errors into messages that name the flag, the value, its origin and the remedy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from guard_plugins.config.layers import Layer
from guard_plugins.config.nearest import nearest
from guard_plugins.errors import ConfigError


def flag(path: Sequence[str | int]) -> str:
    """Return the command-line flag of a field, such as ``--guard.h-rms`` for ``("guard", "h_rms")``."""
    return "--" + ".".join(str(part).replace("_", "-") for part in path)


def explain(error: ValidationError, model: type[BaseModel], layers: Sequence[Layer]) -> ConfigError:
    """Return one readable error for everything pydantic found wrong."""
    problems = [_problem(detail, model, layers) for detail in error.errors(include_url=False)]
    return ConfigError(
        "The configuration is not valid" if len(problems) > 1 else problems[0],
        seen="; ".join(problems) if len(problems) > 1 else "",
        do="Correct the value; `guard-run --method NAME --help` describes every option.",
    )


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
        if isinstance(value, bool) and bool not in _kinds(kind) and {int, float} & _kinds(kind):
            raise ConfigError(
                f"{flag((*above, name))}: a number is needed, got {str(value).lower()}",
                do="Give a number in its place.",
            )
        if isinstance(value, Mapping) and isinstance(kind, type) and issubclass(kind, BaseModel):
            refuse_booleans(kind, value, (*above, name))


def _kinds(annotation: Any) -> set[Any]:
    """Return the plain types in an annotation, such as int and NoneType of ``PositiveInt | None``."""
    inner = get_args(annotation)
    return {annotation} if not inner else set().union(*map(_kinds, inner))


def _problem(detail: ErrorDetails, model: type[BaseModel], layers: Sequence[Layer]) -> str:
    path = [part for part in detail["loc"] if not str(part).startswith("function-")]
    where = f" (from {_origin(path, layers)})" if _origin(path, layers) else ""
    if detail["type"] == "extra_forbidden":
        return f"Unknown key {'.'.join(map(str, path))!r}{where}{_nearest(path, model)}"
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "missing":
        return f"{flag(path)} is required"
    return f"{flag(path)}: {message}, got {_short(detail['input'])}{where}" if path else message


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _origin(path: Sequence[Any], layers: Sequence[Layer]) -> str:
    for layer in reversed(layers):
        value: Any = layer.values
        for part in path:
            if not isinstance(value, Mapping) or part not in value:
                break
            value = value[part]
        else:
            return layer.origin if path else ""
    return ""


def _nearest(path: Sequence[Any], model: type[BaseModel]) -> str:
    fields = model.model_fields
    for part in path[:-1]:
        annotation = fields[part].annotation if part in fields else None
        fields = annotation.model_fields if isinstance(annotation, type) and issubclass(annotation, BaseModel) else {}
    near = nearest(str(path[-1]), fields)
    return f"; did you mean {near!r}?" if near else f"; known here: {', '.join(sorted(fields))}"
