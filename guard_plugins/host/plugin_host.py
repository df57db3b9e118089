"""Loads plugins one by one, each in a sandbox of its own: a broken one never takes another down."""

from __future__ import annotations

import importlib
import os
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import pluggy

from guard_plugins import hookspecs
from guard_plugins._version import __version__
from guard_plugins.errors import PluginError
from guard_plugins.host.discovery import Entry, catalogue, claims_of
from guard_plugins.host.own_network import NetworkRegistry
from guard_plugins.host.registry import Broken, Registry
from guard_plugins.host.validation import check_class, require_compatible

if TYPE_CHECKING:
    from guard_plugins.attacks.base import Attack
    from guard_plugins.data.base import DataSet
    from guard_plugins.method import Method
    from guard_plugins.networks.base import Network

KINDS: Final = ("methods", "datasets", "networks", "attacks")
BUILT_IN: Final = ("guard_plugins.host.builtin",)


class PluginHost:
    """Holds what every plugin registered.

    Methods come through entry points only; the data sets, networks and attacks that ship with the project come
    through the same hooks from :data:`BUILT_IN`.

    Attributes:
        methods: Distillation methods by name.
        datasets: Data sets by name.
        networks: Architectures by name.
        attacks: Attacks by name.
        broken: Plugins that could not be used, by entry-point name.

    Args:
        only: Load these entry points only (all enabled ones where None).

    Raises:
        PluginError: If a plugin is broken and ``GUARD_STRICT_PLUGINS=1`` is set.
    """

    def __init__(self, *, only: Sequence[str] | None = None) -> None:
        self.entries = catalogue()
        self.methods: Registry[Method] = Registry("method", "--method")
        self.datasets: Registry[DataSet] = Registry("data set", "--dataset")
        self.networks: Registry[Network] = NetworkRegistry("network", "--teacher.network / --student.network")
        self.attacks: Registry[Attack] = Registry("attack", "--evaluation.protocol")
        self.broken: dict[str, Broken] = {}
        self._strict = os.environ.get("GUARD_STRICT_PLUGINS") == "1"
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        for module in BUILT_IN:
            self._admit(module, f"guard-plugins {__version__}", importlib.import_module(module))
        for entry in self.entries:
            if entry.status == "enabled" and (only is None or entry.name in only):
                self._load(entry)

    def method(self, name: str) -> type[Method]:
        """Return the method called ``name``.

        Raises:
            ConfigError: If no installed plugin provides it; the nearest match is offered.
            PluginError: If its plugin is broken, disabled, or two distributions claim the name.
        """
        claims = claims_of(name, self.entries)
        if name in self.broken:
            raise self.broken[name].error()
        if any(entry.status == "disabled" for entry in claims):
            raise PluginError(f"The method {name!r} is disabled", do=f"Add {name} to GUARD_PLUGINS, or unset it.")
        if len(claims) > 1:
            raise PluginError(
                f"Two distributions provide a method called {name!r}",
                seen=" and ".join(entry.origin for entry in claims),
                do="Uninstall one of them.",
            )
        return self.methods[name]

    def _load(self, entry: Entry) -> None:
        try:
            plugin = entry.point.load()
            require_compatible(plugin, f"The plugin {entry.name!r}")
            self._admit(entry.name, entry.origin, plugin)
            if (
                entry.name not in self.methods
                and self._manager.subset_hook_caller("register_methods", self._others(plugin)).get_hookimpls()
            ):
                raise PluginError(
                    f"the entry point {entry.name!r} registers no method of that name",
                    do="Give the method and its entry point the same name.",
                )
        except (Exception, SystemExit) as error:  # a plugin may raise anything; the others still load
            if self._strict:
                raise
            reason = str(error).splitlines()[0] if str(error) else ""
            reason = reason if isinstance(error, PluginError) else f"{type(error).__name__}: {reason}"
            remedy = error.do if isinstance(error, PluginError) else ""
            self.broken[entry.name] = Broken(entry.name, entry.origin, reason, traceback.format_exc(), remedy)

    def _admit(self, name: str, origin: str, plugin: Any) -> None:
        """Register a plugin and collect what it returns, or leave no trace of it."""
        self._manager.register(plugin, name=name)
        try:
            self._manager.check_pending()
            found = {kind: self._collect(kind, plugin) for kind in KINDS}
            for kind, classes in found.items():
                getattr(self, kind).refuse_taken(classes, origin)
        except BaseException:
            self._manager.unregister(plugin)
            raise
        for kind, classes in found.items():
            for value in classes:
                getattr(self, kind).add(value, name, origin)

    def _collect(self, kind: str, plugin: Any) -> list[type]:
        caller = self._manager.subset_hook_caller(f"register_{kind}", self._others(plugin))
        classes = [value for result in caller() for value in _as_list(kind, result)]
        for value in classes:
            check_class(kind, value)
        return classes

    def _others(self, plugin: Any) -> list[Any]:
        return [other for other in self._manager.get_plugins() if other is not plugin]


def _as_list(kind: str, result: Any) -> list[Any]:
    if not isinstance(result, list):
        raise PluginError(f"register_{kind} returned {type(result).__name__}, not a list of classes")
    return result
