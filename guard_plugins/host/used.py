"""Whose code a run uses, and in which version: what its stages depend on besides settings and files."""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from guard_plugins.config import RunConfig
from guard_plugins.config.explain import flag
from guard_plugins.evaluation.protocols import find_protocol
from guard_plugins.host.discovery import OWN
from guard_plugins.host.plugin_host import PluginHost
from guard_plugins.host.registry import Registered, Registry, UnknownNameError, unknown_name
from guard_plugins.training.recipes import recipe_of


class Used(NamedTuple):
    """A part of a run that a plugin brings.

    Attributes:
        kind: ``methods``, ``datasets``, ``networks``, ``recipes``, ``augmentations`` or ``attacks``.
        name: Name of the part.
        plugin: Name of the plugin.
        origin: Its distribution and version, or its file and hash.
    """

    kind: str
    name: str
    plugin: str
    origin: str


def used_parts(config: RunConfig, host: PluginHost) -> list[Used]:
    """Return every part that the configuration names.

    Args:
        config: The resolved configuration.
        host: The plugins.

    Raises:
        ConfigError: If a part is not there.
    """
    recipe = host.recipes.registered(config.student.protocol)
    networks = _networks(config, host)
    protocol = find_protocol(config.evaluation.protocol, host.attacks, eps=config.evaluation.eps)
    found: list[tuple[str, str, Registered[Any]]] = [
        ("methods", config.method, host.methods.registered(config.method)),
        ("datasets", config.dataset, host.datasets.registered(config.dataset)),
    ]
    found += [("recipes", config.student.protocol, recipe)] if recipe.origin.split()[0] != OWN else []
    found += [("augmentations", name, part) for name, part in _augmentations(config, host).items()]
    found += [("networks", name, part) for name, part in networks.items()]
    attacks = dict.fromkeys(attack.attack for attack in protocol.attacks)
    found += [("attacks", name, host.attacks.registered(name)) for name in attacks]
    return [Used(kind, name, part.plugin, part.origin) for kind, name, part in found]


def _networks(config: RunConfig, host: PluginHost) -> dict[str, Registered[Any]]:
    """Return every network that the settings name; an unknown one is blamed on its own option."""
    found: dict[str, Registered[Any]] = {}
    for option in ("teacher.network", "student.network", *host.method(config.method).networks):
        value = functools.reduce(getattr, option.split("."), config)
        for name in value if isinstance(value, tuple | list) else (value,):
            if isinstance(name, str):
                found[name] = _named(host.networks, name, flag(option.split(".")))
    return found


def _augmentations(config: RunConfig, host: PluginHost) -> dict[str, Registered[Any]]:
    """Return the augmentations of plugins that the settings, or the students' recipe, name."""
    student, protocol = config.student.augment, config.student.protocol
    asked = {"--teacher.augment": config.teacher.augment}
    if student is None:
        asked[f"of the recipe {protocol}"] = recipe_of(config.student, host.recipes).augment
    else:
        asked["--student.augment"] = student
    found = {name: _named(host.augmentations, name, option) for option, name in asked.items()}
    return {name: part for name, part in found.items() if part.origin.split()[0] != OWN}


def _named(registry: Registry[Any], name: str, option: str) -> Registered[Any]:
    """Return a part; an unknown one is blamed on the option that names it."""
    try:
        return registry.registered(name)
    except UnknownNameError:
        raise unknown_name(registry.kind, option, name, registry) from None


def foreign_origins(parts: Sequence[Used], kinds: Collection[str]) -> list[str]:
    """Return where the parts of some kinds come from, but for the project itself: a run's manifest has its version.

    Args:
        parts: The parts of a run.
        kinds: The kinds that matter.
    """
    origins = (part.origin for part in parts if part.kind in kinds)
    return sorted({origin for origin in origins if origin.split()[0] != OWN})
