"""What the host expects of every class a plugin registers; a class that does not fit is refused at loading."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Mapping
from typing import Any, Final

from guard_plugins.errors import PluginError
from guard_plugins.hookspecs import API_VERSION

BASES: Final = {
    "methods": ("guard_plugins.method", "Method"),
    "datasets": ("guard_plugins.data.base", "DataSet"),
    "networks": ("guard_plugins.networks.base", "Network"),
    "recipes": ("guard_plugins.training.recipes", "StudentRecipe"),
    "augmentations": ("guard_plugins.data.augment", "Augmentation"),
    "attacks": ("guard_plugins.attacks.base", "Attack"),
}
"""Module and name of the base class of every kind."""

_NAME: Final = re.compile(r"[^\W_][^\s/\\\0]*( [^\s/\\\0]+)*")
"""Names are typed after a flag, and are part of the names of folders."""
_TUPLES: Final = ("guarded", "reads", "networks")
_MAPPINGS: Final = ("defaults", "presets")


def require_compatible(plugin: object, what: str) -> None:
    """Check the version of the plugin API that ``plugin`` (an object or class) declares as ``guard_api``, if any.

    Raises:
        PluginError: If it is another version than the host's.
    """
    declared = getattr(plugin, "guard_api", None)
    if declared is None or declared == API_VERSION:
        return
    newer = isinstance(declared, int) and declared > API_VERSION
    raise PluginError(
        f"{what} declares guard_api = {declared!r}, but this guard-plugins offers version {API_VERSION} of its plugin "
        "API",
        do="Update guard-plugins." if newer else "Install a release of the plugin that is written for this version.",
    )


def check_class(kind: str, value: Any) -> None:
    """Check one class that ``register_<kind>`` returned.

    Raises:
        PluginError: If the host could not use it.
    """
    module, attribute = BASES[kind]
    base = getattr(importlib.import_module(module), attribute)
    if not (inspect.isclass(value) and issubclass(value, base)):
        raise PluginError(f"register_{kind} returned {value!r}, which is not a subclass of {module}.{attribute}")
    require_compatible(value, f"The class {value.__name__}")
    if inspect.isabstract(value):
        missing = ", ".join(sorted(getattr(value, "__abstractmethods__", ())))
        raise PluginError(f"register_{kind} returned {value.__name__}, which does not implement: {missing}")
    name: Any = getattr(value, "name", None)
    if not isinstance(name, str):
        raise PluginError(f"register_{kind} returned {value.__name__}, which has no `name`")
    if not _NAME.fullmatch(name):
        raise PluginError(
            f"register_{kind} returned {value.__name__}, whose name {name!r} cannot be typed or be part of a path",
            do="Its authors must begin it with a letter or digit, and leave out slashes.",
        )
    if kind == "recipes" and type(getattr(value, "recipe", None)).__name__ != "Recipe":
        raise PluginError(f"register_recipes returned {value.__name__}, whose `recipe` is no Recipe")
    if kind == "methods":
        _check_method(value)


def _check_method(value: Any) -> None:
    from guard_plugins.config.compose import run_config_class
    from guard_plugins.method import MethodConfig

    if not (inspect.isclass(value.Config) and issubclass(value.Config, MethodConfig)):
        raise PluginError(
            f"The Config of {value.__name__} is not a subclass of guard_plugins.MethodConfig",
            do="Derive it from MethodConfig.",
        )
    run_config_class(value)
    _check_labels(value)
    _check_kinds(value)
    for name in value.guarded:
        if not callable(getattr(value, name, None)):
            raise PluginError(
                f"The method {value.name!r} wants {name!r} guarded, but has no such function",
                do=f"Its authors must correct `guarded` of {value.__module__}.{value.__qualname__}.",
            )


def _check_kinds(value: Any) -> None:
    """Refuse a string in place of a tuple of names, and options that there are not."""
    from guard_plugins.config.compose import run_config_class
    from guard_plugins.config.sources import fields_of

    for attribute in _TUPLES:
        declared = getattr(value, attribute)
        if isinstance(declared, str):
            raise PluginError(
                f"`{attribute}` of the method {value.name!r} is the string {declared!r}, not a tuple of names",
                do=f"Its authors must write ({declared!r},) with a comma.",
            )
    for attribute in _MAPPINGS:
        declared = getattr(value, attribute)
        if not isinstance(declared, Mapping):
            raise PluginError(
                f"`{attribute}` of the method {value.name!r} is no mapping of settings", seen=repr(declared)[:80],
                do='Its authors must nest it as the YAML file is: {"student": {"epochs": 100}}.',
            )  # fmt: skip
    options = [".".join(path) for path in fields_of(run_config_class(value))]
    for name in value.networks:
        if name not in options:
            raise PluginError(
                f"`networks` of the method {value.name!r} names {name!r}, which is no option of its Config",
                do=f"Its authors must correct `networks` of {value.__module__}.{value.__qualname__}.",
            )


def _check_labels(value: Any) -> None:
    whom = f"{value.__module__}.{value.__qualname__}"
    if value.labels not in ("soft", "hard", "own", "mean"):
        raise PluginError(
            f"The method {value.name!r} declares labels = {value.labels!r}, which is none of 'soft', 'hard', 'own', "
            "'mean'",
            do=f"Its authors must correct `labels` of {whom}.",
        )
    if value.labels in ("soft", "mean") and not value.uses_teacher:
        raise PluginError(
            f"The method {value.name!r} declares labels = {value.labels!r}, but uses_teacher = False: no teacher could "
            "give them",
            do=f"Its authors must set labels = 'hard' in {whom}, or use a teacher.",
        )
