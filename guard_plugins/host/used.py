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
from guard_plugins.host.registry import Registered, UnknownNameError, unknown_name


class Used(NamedTuple):
    """A part of a run that a plugin brings.

    Attributes:
        kind: ``methods``, ``datasets``, ``networks``, ``recipes`` or ``attacks``.
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
    found += [("networks", name, part) for name, part in networks.items()]
    attacks = dict.fromkeys(attack.attack for attack in protocol.attacks)
    found += [("attacks", name, host.attacks.registered(name)) for name in attacks]
    return [Used(kind, name, part.plugin, part.origin) for kind, name, part in found]


def _networks(config: RunConfig, host: PluginHost) -> dict[str, Registered[Any]]:
    """Return every network that the settings name; an unknown one is blamed on its own option."""
    found: dict[str, Registered[Any]] = {}
    for option in ("teacher.network", "student.network", *host.method(config.method).networks):
        name = functools.reduce(getattr, option.split("."), config)
        if not isinstance(name, str):
            continue
        try:
            found[name] = host.networks.registered(name)
        except UnknownNameError:
            raise unknown_name("network", flag(option.split(".")), name, host.networks) from None
    return found


def foreign_origins(parts: Sequence[Used], kinds: Collection[str]) -> list[str]:
    """Return where the parts of some kinds come from, but for the project itself: a run's manifest has its version.

    Args:
        parts: The parts of a run.
        kinds: The kinds that matter.
    """
    origins = (part.origin for part in parts if part.kind in kinds)
    return sorted({origin for origin in origins if origin.split()[0] != OWN})
