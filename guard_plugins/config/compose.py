"""Builds the run's configuration class for a method, and a configuration from layers of settings."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, ClassVar, Final, Protocol

from pydantic import BaseModel, ValidationError, create_model

from guard_plugins.config.booleans import refuse_booleans
from guard_plugins.config.empty import refuse_empty
from guard_plugins.config.explain import explain
from guard_plugins.config.layers import Layer, merged
from guard_plugins.config.nearest import nearest
from guard_plugins.config.presets import PRESETS
from guard_plugins.config.schema import RunConfig
from guard_plugins.errors import ConfigError, PluginError

COMMAND_FLAGS: Final = frozenset({
    "config", "resume", "print_config", "version", "help", "list", "quiet", "verbose", "stop_after", "seeds", "compare",
    "completion",
})  # fmt: skip
"""Flags of the command that are no settings of the run; a method's option cannot have their names either."""


class Configurable(Protocol):
    """What a configuration needs to know of a method; every :class:`guard_plugins.method.Method` is one.

    Attributes:
        name: What users pass to ``--method``.
        Config: A pydantic model of the method's own options.
        defaults: Settings of the whole run that the method prefers.
        presets: Its named settings.
    """

    name: ClassVar[str]
    Config: ClassVar[type[Any]]
    defaults: ClassVar[Mapping[str, Any]]
    presets: ClassVar[Mapping[str, Mapping[str, Any]]]


def taken_names() -> frozenset[str]:
    """Return the names no option of a method may have."""
    return frozenset({*RunConfig.model_fields, *COMMAND_FLAGS, *dir(RunConfig)})


@functools.cache
def run_config_class(method: type[Configurable]) -> type[RunConfig]:
    """Return the configuration model of a run of ``method``: the shared options and the method's own.

    Raises:
        PluginError: If an option of the method has the name of a shared one.
    """
    shadowed = sorted(taken_names() & set(method.Config.model_fields))
    if shadowed:
        raise PluginError(
            f"The method {method.name!r} defines options that guard-run already has: {', '.join(shadowed)}",
            do=f"Its authors must rename them (the Config of {method.__module__}.{method.__qualname__}).",
        )
    return _joined(method.Config)  # type: ignore[arg-type]


class _Joined(RunConfig):
    """A run's configuration with a method's own options, whose class is made anew in every process."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what pickle makes it of: processes of a pool take configurations."""
        return _unpickled, (type(self).__bases__[-1], self.__getstate__())


@functools.cache
def _joined(options: type[BaseModel]) -> type[RunConfig]:
    return create_model("RunConfig", __base__=(_Joined, options))  # type: ignore[arg-type]


def _unpickled(options: type[BaseModel], state: dict[Any, Any]) -> RunConfig:
    kind = _joined(options)
    config = kind.__new__(kind)
    config.__setstate__(state)
    return config


def compose(method: type[Configurable], layers: Sequence[Layer]) -> RunConfig:
    """Return the configuration that ``layers`` give for ``method``, later layers over earlier ones, all over presets.

    Raises:
        ConfigError: If a value is wrong; the message names its flag and where it came from.
    """
    given = merged(*(_expanded(layer.values) for layer in layers))
    preset = preset_layer(method, given)
    values = merged(_weaker(preset.values, given), given, {"method": method.name})
    model = run_config_class(method)
    refuse_booleans(model, values)
    refuse_empty(RunConfig, values)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise explain(error, model, [preset, *layers]) from None


def preset_layer(method: type[Configurable], given: Mapping[str, Any]) -> Layer:
    """Return the preset asked for, or the one named like the data set where there is one.

    Raises:
        ConfigError: If the preset asked for does not exist; the existing ones are listed.
    """
    asked, dataset = (value if isinstance(value, str) else "" for value in (given.get("preset"), given.get("dataset")))
    name = asked or dataset or RunConfig.model_fields["dataset"].default
    known = name in PRESETS or name in method.presets
    if asked and not known:
        near = nearest(asked, {*PRESETS, *method.presets})
        hint = f"Did you mean {near!r}? " if near else ""
        raise ConfigError(
            f"The method {method.name!r} has no preset {name!r} (--preset)",
            seen=f"its presets: {', '.join(sorted({*PRESETS, *method.presets}))}",
            do=f"{hint}Pick one of these, or leave --preset out.",
        )
    origin = f"preset {name}" if known else f"the method {method.name}"
    return Layer(origin, merged(method.defaults, PRESETS.get(name, {}), method.presets.get(name, {})))


def _expanded(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Read a bare path in place of the section ``teacher`` before anything is laid under it."""
    teacher = values.get("teacher")
    return {**values, "teacher": {"path": teacher}} if isinstance(teacher, (str, PurePath)) else values


def _weaker(preset: Mapping[str, Any], given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Drop what of a preset stands in the way of the user's choice under another name.

    That is the length of z where it is given in the other unit, and CutMix, which takes the place of MixUp, where the
    user asks for MixUp or names a recipe.
    """
    for section, asked, dropped in (
        ("guard", ("h", "h_rms"), ("h", "h_rms")), ("student", ("mixup", "protocol"), ("cutmix",)),
    ):  # fmt: skip
        theirs = given.get(section)
        if isinstance(theirs, Mapping) and any(theirs.get(name) is not None for name in asked):
            kept = {key: value for key, value in preset.get(section, {}).items() if key not in dropped}
            preset = {**preset, section: kept}
    return preset
