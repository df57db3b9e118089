"""Turns pydantic's validation errors into messages that name the flag, the value, its origin and the remedy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from guard_plugins.config.layers import Layer
from guard_plugins.config.nearest import nearest
from guard_plugins.errors import ConfigError

GUARD_RUN_HELP: Final = "guard-run --method NAME --help"


def flag(path: Sequence[str | int]) -> str:
    """Return the command-line flag of a field, such as ``--guard.h-rms`` for ``("guard", "h_rms")``.

    A number's place in a list is left out.
    """
    return "--" + ".".join(part.replace("_", "-") for part in path if isinstance(part, str))


def explain(
    error: ValidationError, model: type[BaseModel], layers: Sequence[Layer], *, help_command: str = GUARD_RUN_HELP
) -> ConfigError:
    """Return one readable error for everything pydantic found wrong.

    Args:
        error: What pydantic found.
        model: The model it checked.
        layers: Where the values came from.
        help_command: The command that describes every option.
    """
    problems = [_problem(detail, model, layers) for detail in error.errors(include_url=False)]
    return ConfigError(
        "The configuration is not valid" if len(problems) > 1 else problems[0],
        seen="; ".join(problems) if len(problems) > 1 else "",
        do=f"Correct the value; `{help_command}` describes every option.",
    )


def _problem(detail: ErrorDetails, model: type[BaseModel], layers: Sequence[Layer]) -> str:
    path = [part for part in detail["loc"] if not str(part).startswith("function-")]
    where = f" (from {_origin(path, layers)})" if _origin(path, layers) else ""
    if detail["type"] == "extra_forbidden":
        return f"Unknown key {'.'.join(map(str, path))!r}{where}{_nearest(path, model)}"
    message = detail["msg"].removeprefix("Value error, ").partition(", unable to parse")[0]
    if detail["type"] == "missing" and isinstance(path[-1], int):
        return f"{flag(path)} takes more values than {_short(detail['input'])}{where}"
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
