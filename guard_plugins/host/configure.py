"""A run's configuration from Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from guard_plugins.config import RunConfig
from guard_plugins.config.compose import compose
from guard_plugins.config.layers import Layer, files_of
from guard_plugins.data.base import DataSet
from guard_plugins.errors import ConfigError
from guard_plugins.host.by_size import sized
from guard_plugins.host.effects import idle_settings, refuse_idle
from guard_plugins.host.plugin_file import files_of_environment, source_file
from guard_plugins.host.plugin_host import PluginHost
from guard_plugins.host.registry import HASHED
from guard_plugins.host.used import Used, used_parts
from guard_plugins.method import Method


def configure(method: str | type[Method], **settings: Any) -> RunConfig:
    """Return a run's configuration from Python, as ``guard-run --method METHOD`` would build it.

    Args:
        method: Name of an installed method, or of one in a file (``plugin=["mine.py"]``); or a method's class.
        **settings: Options by field name; sections are mappings (``guard={"weight": 2.0}``).

    Returns:
        The frozen configuration, to be passed to :func:`guard_plugins.run`.

    Raises:
        ConfigError: If the method is unknown or a value is wrong.
    """
    layer = Layer("configure()", settings, may_be_idle="no")
    return resolve(method, [layer]) if isinstance(method, str) else resolve(method.name, [layer], given=method)


def resolve(method: str, layers: Sequence[Layer], *, given: type[Method] | None = None) -> RunConfig:
    """Return the configuration that ``layers`` give for a method, checked against the plugins.

    Args:
        method: Name of a method.
        layers: Where settings come from, weakest first.
        given: The method's class, where it shall not be looked up by its name.

    Raises:
        ConfigError: If a name is unknown, a value is wrong, or a setting would do nothing.
        PluginError: If the method's plugin is broken.
    """
    files = files_of(layers)
    host = PluginHost(only=[method], files=files)
    if given is not None and (method not in host.methods or host.methods[method] is not given):
        host = PluginHost(only=[], files=files, given=given)
    else:
        given = None
    found = host.method(method)
    config = compose(found, layers)
    by_size = sized(config, found, host.datasets[config.dataset], layers)
    if by_size is not None:
        config = compose(found, [by_size, *layers])
    parts = used_parts(config, host)
    recipe = host.recipes[config.student.protocol].recipe
    _require_soft_labels(config, found)
    _require_step(config)
    refuse_idle(config, found, host.datasets[config.dataset], layers, recipe)
    return _recorded(_without_overruled(config, found, host.datasets[config.dataset]), parts, given)


def host_of(config: RunConfig) -> PluginHost:
    """Return a host that holds what a run needs.

    Args:
        config: From :func:`resolve`.

    Raises:
        ConfigError: If a file that is a plugin is gone.
    """
    return PluginHost(only=[config.method], files=config.plugin, given=config._given)


def _require_soft_labels(config: RunConfig, method: type[Method]) -> None:
    if config.student.labels == "stored" and method.labels not in ("soft", "mean"):
        raise ConfigError(
            f"The students of {method.name!r} learn from {method.labels} labels: there are no soft labels to store "
            "(--student.labels)",
            do="Leave --student.labels out.",
        )
    if config.student.labels == "own" and method.labels != "own" and not method.returns_soft_labels:
        raise ConfigError(
            f"The method {method.name!r} returns no soft labels with its images (--student.labels own)",
            do="Leave --student.labels out. A method that returns them says returns_soft_labels = True.",
        )


def _require_step(config: RunConfig) -> None:
    if config.student.guard_weight and config.guard.h is not None and config.student.guard_h_rms is None:
        raise ConfigError(
            "Students under the hook need a step length per pixel, since the teacher's is given over the whole image "
            "(--guard.h)",
            do="Give --student.guard-h-rms, or --guard.h-rms in place of --guard.h.",
        )


def _without_overruled(config: RunConfig, method: type[Method], dataset: type[DataSet]) -> RunConfig:
    """Return the configuration without a weight of features that a stronger setting leaves nothing to do.

    Only a file or a variable may hold one. Whoever looks at the weight then need not know why.
    """
    if ("student", "feature_weight") not in {idle.path for idle in idle_settings(config, method, dataset)}:
        return config
    return config.model_copy(update={"student": config.student.model_copy(update={"feature_weight": 0.0})})


def _recorded(config: RunConfig, parts: Sequence[Used], given: type[Method] | None) -> RunConfig:
    """Return the configuration with the files of the environment, or of the class, that the run uses."""
    names = {part.plugin for part in parts if part.origin.split()[-1].startswith(HASHED)}
    source = None if given is None else source_file(given)
    others = [path.absolute() for path in files_of_environment() if path.name in names]
    others += [] if source is None else [source]
    files = tuple(dict.fromkeys((*config.plugin, *others)))
    recorded = config.model_copy(update={"plugin": files}) if files != config.plugin else config
    recorded._given = given
    return recorded
