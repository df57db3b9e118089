"""Where settings come from: command line, environment variables, a YAML file."""

from __future__ import annotations

import argparse
import difflib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NoReturn, cast

import yaml
from pydantic import BaseModel, create_model
from pydantic_settings import BaseSettings, CliSettingsSource, EnvSettingsSource, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError

from guard_plugins.config.explain import GUARD_RUN_HELP, flag
from guard_plugins.config.layers import Layer
from guard_plugins.config.nearest import nearest
from guard_plugins.config.yaml_file import read_yaml
from guard_plugins.errors import ConfigError

ENV_PREFIX: Final = "GUARD_RUN_"

FEW: Final = 3
"""How many flags of other sections an error names."""
DEFAULTS: Final = r"( \(default: [^()]*\))+$"
"""What help texts say of defaults, at their end."""


class Help(argparse.HelpFormatter):
    """Help texts with defaults as people write them, and none where there is none."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = (action.help or "").replace(" (default: None)", "")
        return re.sub(r"(?<=default: )\d+\.\d{4,}(?=\)$)", lambda number: f"{float(number[0]):.4g}", text)


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are ours, with the nearest flag offered.

    Attributes:
        presets: Nested settings that lie over the model's defaults, which help texts show in their place.
        help_command: The command that describes every option; errors name it.
    """

    presets: Mapping[str, Any] = MappingProxyType({})
    help_command: str = GUARD_RUN_HELP

    def format_help(self) -> str:
        """Return the help text, with the defaults that hold under the preset."""
        values = {flag(path): value for path, value in leaves(self.presets)}
        for action in self._actions:
            for name in values.keys() & set(action.option_strings):
                action.help = f"{re.sub(DEFAULTS, '', action.help or '')} (default: {values[name]})"
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        """Raise a ConfigError in place of argparse's exit."""
        unknown = re.search(r"unrecognized arguments: (\S+)", message)
        if not unknown:
            raise ConfigError(message, do=self._lists())
        name = unknown.group(1).split("=")[0]
        if not name.startswith("-"):
            raise ConfigError(
                f"{name!r} stands where an option should",
                do=f"The method, or a file, comes first, and once. {self._lists()}",
            )
        flags = [option for action in self._actions for option in action.option_strings]
        near = _meant(name, flags)
        raise ConfigError(
            f"Unknown option {name}",
            do=(f"Did you mean {' or '.join(near)}? " if near else "") + self._lists(),
        )

    def _lists(self) -> str:
        return f"`{self.help_command}` lists the options."


def _meant(name: str, flags: Sequence[str]) -> Sequence[str]:
    """Return the flags ``name`` may stand for: short of a section, a letter or two wrong, or in another section."""
    section, _, field = name.lstrip("-").rpartition(".")
    elsewhere = [option for option in flags if option.endswith(f".{field}")]
    typo = list(filter(None, [nearest(name, flags, cutoff=0.75)]))
    if not section:
        return elsewhere or typo
    return typo or elsewhere[:FEW]


def settings_class(model: type[BaseModel]) -> type[BaseSettings]:
    """Return ``model`` as a settings class that flags and environment variables can be read for."""
    config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_nested_delimiter="__", cli_kebab_case=True, cli_avoid_json=True,
        cli_hide_none_type=True, extra="forbid", nested_model_default_partial_update=True,
    )  # fmt: skip
    base = type("_Settings", (BaseSettings,), {"model_config": config})
    return create_model("Settings", __base__=(model, base))  # type: ignore[arg-type]


def command_line(model: type[BaseModel], argv: Sequence[str], parser: Parser) -> Layer:
    """Return the settings given as flags; ``--help`` prints and exits.

    Raises:
        ConfigError: If a flag is unknown, lacks its value, or names a section.
    """
    _refuse_sections(model, argv)
    source: CliSettingsSource[Any] = CliSettingsSource(
        settings_class(model), cli_parse_args=list(argv), root_parser=parser
    )
    return Layer("the command line", source(), may_be_idle="no")


def environment(model: type[BaseModel]) -> Layer:
    """Return the settings given as ``GUARD_RUN_...`` variables (``__`` between section and field).

    Raises:
        ConfigError: If a section's variable holds something that is not JSON, or a variable is nearly a setting's.
    """
    _refuse_misspelt(model)
    try:
        return Layer("the environment", EnvSettingsSource(settings_class(model))())
    except SettingsError as error:
        raise ConfigError(f"A {ENV_PREFIX}... variable cannot be read", seen=str(error)) from None


def yaml_file(path: Path, option: str = "--config") -> Layer:
    """Return the settings of a YAML file that ``option`` asked for.

    Raises:
        ConfigError: If it is missing, unreadable, not YAML or not a mapping.
    """
    try:
        values = read_yaml(path)
    except FileNotFoundError:
        raise ConfigError(f"There is no configuration file {path} ({option})", do="Check the path.") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(
            f"The configuration file {path} cannot be read ({option})",
            seen=str(error).replace('"<unicode string>"', "the file"), do="Correct it by hand, or give another.",
        ) from None  # fmt: skip
    if values is None:
        return Layer(str(path), {})
    if not isinstance(values, Mapping) or not all(isinstance(key, str) for key in values):
        raise ConfigError(
            f"The configuration file {path} is not a mapping of option names to values", seen=type(values).__name__
        )
    return Layer(str(path), values)


def _refuse_sections(model: type[BaseModel], argv: Sequence[str]) -> None:
    """Refuse a value for a whole section, such as ``--student convnet3``, and name the option that takes it."""
    for name, field in model.model_fields.items():
        section = field.annotation
        if not (isinstance(section, type) and issubclass(section, BaseModel)):
            continue
        for position, argument in enumerate(argv):
            given, equals, value = argument.partition("=")
            if given != flag((name,)):
                continue
            value = value if equals else next(iter(argv[position + 1 : position + 2]), "")
            options = [flag((name, inner)) for inner in section.model_fields]
            named = next((flag((name, n)) for n, f in section.model_fields.items() if f.annotation in _NAMES), "")
            example = f"Did you mean {named} {value}? " if named and value and not value.startswith("-") else ""
            raise ConfigError(
                f"{given} is a group of options, and takes no value of its own", seen=argument,
                do=f"{example}Its options: {', '.join(options[:6])}{', ...' if len(options) > 6 else ''}",
            )  # fmt: skip


_NAMES: Final[tuple[Any, ...]] = (str, str | None)


def _refuse_misspelt(model: type[BaseModel]) -> None:
    """Refuse a variable that is nearly a setting's; others may be of other methods, or lie below a plugin's field."""
    known = {f"{ENV_PREFIX}{'__'.join(path)}".upper(): leaf for path, leaf in _fields(model)}
    below = tuple(f"{name}__" for name, leaf in known.items() if leaf)
    for name in sorted(os.environ):
        if not name.upper().startswith(ENV_PREFIX) or name.upper() in known or name.upper().startswith(below):
            continue
        for near in difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.9):
            raise ConfigError(
                f"The environment variable {name} is no setting of this run",
                do=f"Did you mean {near}? Correct or unset it; two underscores stand between section and option.",
            )


def _fields(model: type[BaseModel], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], bool]]:
    """Yield the path of every field, and whether it is no section."""
    for name, field in model.model_fields.items():
        section = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        yield (*above, name), not section
        if section:
            yield from _fields(cast("type[BaseModel]", field.annotation), (*above, name))


def fields_of(model: type[BaseModel]) -> list[tuple[str, ...]]:
    """Return the paths of a model's options, without those of sections as a whole."""
    return [path for path, leaf in _fields(model) if leaf]


def leaves(settings: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every setting of nested ones with its path, which begins with ``above``."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from leaves(value, (*above, key))
        else:
            yield (*above, key), value
