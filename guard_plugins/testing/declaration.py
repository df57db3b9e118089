"""The promises a method makes by its class alone: its declaration and its options."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from guard_plugins.config import run_config_class
from guard_plugins.config.compose import compose
from guard_plugins.config.explain import flag
from guard_plugins.config.layers import Layer
from guard_plugins.config.sources import Parser, command_line
from guard_plugins.errors import GuardError
from guard_plugins.host.validation import check_class
from guard_plugins.method import Method
from guard_plugins.testing.promises import BrokenPromiseError


def check_declaration(method: type[Method]) -> None:
    """Check the class attributes.

    Raises:
        BrokenPromiseError: If they do not fit each other or the host.
    """
    try:
        check_class("methods", method)
    except GuardError as error:
        raise BrokenPromiseError("declaration", error.what, error.do) from error
    if not re.fullmatch(r"[a-z][a-z0-9-]*", method.name):
        raise BrokenPromiseError(
            "declaration", f"name = {method.name!r}", "Use small letters, digits and hyphens, as in guard-run --method."
        )
    summary = getattr(method, "summary", "")
    if not summary.strip() or "\n" in summary:
        raise BrokenPromiseError("declaration", f"summary = {summary!r}", "Say in one line what the method does.")
    if "train_teacher" in method.guarded and not method.uses_teacher:
        raise BrokenPromiseError(
            "declaration",
            "guarded names 'train_teacher', but uses_teacher = False: it is never called",
            "Name the functions in which a loss on real data is differentiated, or set guarded = () if there is none.",
        )


def check_options(method: type[Method], settings: Mapping[str, Any]) -> None:
    """Check the options' help texts and defaults, and their way through flags, YAML and presets.

    Args:
        method: The method.
        settings: Options that must survive as well, nested as in the YAML file.

    Raises:
        BrokenPromiseError: If an option lacks help or default, or comes back changed.
    """
    for path, field in _options(method.Config):
        if field.is_required() or not field.description:
            lacks = "default" if field.is_required() else "description"
            raise BrokenPromiseError(
                "options", f"{flag(path)} has no {lacks}", "Write Field(default, description=...)."
            )
    given = {name: value for name, value in settings.items() if name in method.Config.model_fields}
    for asked in ({}, given, *({"preset": name} for name in method.presets)):
        _check_round_trip(method, asked)


def _options(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    """Yield every option and section with its path."""
    for name, field in model.model_fields.items():
        yield (*path, name), field
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _options(field.annotation, (*path, name))


def _check_round_trip(method: type[Method], asked: Mapping[str, Any]) -> None:
    model, own = run_config_class(method), set(method.Config.model_fields)
    try:
        config = compose(method, [Layer("the contract", asked)])
        stored = yaml.safe_load(yaml.safe_dump(config.model_dump(mode="json")))
        from_yaml = compose(method, [Layer("YAML", stored)])
        argv = [f"{flag(path)}={_text(value)}" for path, value in _leaves(config.model_dump(mode="json", include=own))]
        from_flags = compose(method, [Layer("the contract", asked), command_line(model, argv, Parser())])
    except GuardError as error:
        raise BrokenPromiseError("options", f"with {dict(asked)}: {error}") from error
    for way, other in (("YAML", from_yaml), ("flags", from_flags)):
        if other.model_dump(include=own) != config.model_dump(include=own):
            raise BrokenPromiseError(
                "options",
                f"{config.model_dump(include=own)} came back from {way} as {other.model_dump(include=own)}",
                "Let validators accept their own results.",
            )


def _leaves(values: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every value that is set, with its path; what is None has no flag to be given as."""
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*path, name))
        elif value is not None:
            yield (*path, name), value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
