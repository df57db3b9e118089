"""A run's configuration from Python."""

from __future__ import annotations

from typing import Any

from guard_plugins.config import RunConfig
from guard_plugins.config.compose import compose
from guard_plugins.config.layers import Layer
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
    return compose(PluginHost(only=[method]).method(method), [Layer("configure()", settings)])
