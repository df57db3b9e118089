"""A run's configuration from Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from guard_plugins.config import RunConfig
from guard_plugins.config.compose import compose
from guard_plugins.config.layers import Layer
from guard_plugins.evaluation.protocols import PROTOCOLS, find_protocol
from guard_plugins.host.by_size import sized
from guard_plugins.host.effects import refuse_idle
from guard_plugins.host.plugin_host import PluginHost


def configure(method: str, **settings: Any) -> RunConfig:
    """Return a run's configuration from Python, as ``guard-run --method METHOD`` would build it.

    Args:
        method: Name of an installed method.
        **settings: Options by field name; sections are mappings (``guard={"weight": 2.0}``).

    Returns:
        The frozen configuration, to be passed to :func:`guard_plugins.run`.

    Raises:
        ConfigError: If the method is unknown or a value is wrong.
    """
    return resolve(method, [Layer("configure()", settings, may_be_idle="no")])


def resolve(method: str, layers: Sequence[Layer]) -> RunConfig:
    """Return the configuration that ``layers`` give for a method, checked against everything that is installed.

    Args:
        method: Name of an installed method.
        layers: Where settings come from, weakest first.

    Raises:
        ConfigError: If a name is unknown, a value is wrong, or a setting would do nothing.
        PluginError: If the method's plugin is broken.
    """
    host = PluginHost(only=[method])
    found = host.method(method)
    config = compose(found, layers)
    if not _names_of(config, host):
        host = PluginHost()  # other plugins bring data sets and networks, too
    by_size = sized(config, found, host.datasets[config.dataset], layers)
    if by_size is not None:
        config = compose(found, [by_size, *layers])
    for name in filter(None, (config.teacher.network, config.student.network)):
        host.networks[name]
    find_protocol(config.evaluation.protocol, host.attacks, eps=config.evaluation.eps)
    refuse_idle(config, found, host.datasets[config.dataset], layers)
    return config


def _names_of(config: RunConfig, host: PluginHost) -> bool:
    """Say whether everything the configuration names is among what ``host`` has loaded."""
    networks = filter(None, (config.teacher.network, config.student.network))
    known = config.dataset in host.datasets and all(name in host.networks for name in networks)
    return known and (config.evaluation.protocol in PROTOCOLS or config.evaluation.protocol in host.attacks)
