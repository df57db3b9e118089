"""Loads plugins one by one, each fenced in: a broken one never takes another down."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pluggy

from guard_plugins import hookspecs
from guard_plugins._version import __version__
from guard_plugins.errors import PluginError
from guard_plugins.host.discovery import Entry, catalogue, claims_of
from guard_plugins.host.loading import Interrupted, fenced
from guard_plugins.host.own_network import NetworkRegistry
from guard_plugins.host.plugin_file import class_entry, file_entries, files_of_environment, source_file
from guard_plugins.host.registry import Broken, Registry, name_of
from guard_plugins.host.validation import check_class, require_compatible

if TYPE_CHECKING:
    from guard_plugins.attacks.base import Attack
    from guard_plugins.data.augment import Augmentation
    from guard_plugins.data.base import DataSet
    from guard_plugins.method import Method
    from guard_plugins.networks.base import Network
    from guard_plugins.training.recipes import StudentRecipe

KINDS: Final = ("methods", "datasets", "networks", "attacks", "recipes", "augmentations")
BUILT_IN: Final = ("guard_plugins.host.builtin",)


class PluginHost:
    """Holds what the plugins registered.

    Methods come through entry points, files and classes only; the data sets, networks and attacks that ship with the
    project come through the same hooks from :data:`BUILT_IN`. A data set, network or attack that is asked for and not
    there has the other enabled plugins loaded, one by one, until it is found.

    Attributes:
        entries: Every plugin there is.
        methods: Distillation methods by name.
        datasets: Data sets by name.
        networks: Architectures by name.
        attacks: Attacks by name.
        recipes: Students' recipes by name.
        augmentations: Augmentations of training images by name.
        broken: Plugins that could not be used, by entry-point name.
        changes: What plugins did to the process when they were loaded, by entry-point name; it was put back.

    Args:
        only: Load these entry points at once (all enabled ones where None).
        files: Files that are plugins, besides those of ``GUARD_PLUGIN_FILES``; always loaded.
        given: A method's class that is used as it is.

    Raises:
        ConfigError: If a file cannot be read.
        PluginError: If a plugin is broken and ``GUARD_STRICT_PLUGINS=1`` is set.
    """

    def __init__(
        self, *, only: Sequence[str] | None = None, files: Iterable[Path] = (), given: type[Method] | None = None
    ) -> None:
        own = file_entries(
            path for path in (*files, *files_of_environment()) if given is None or path.resolve() != source_file(given)
        )
        own += [class_entry(given)] if given is not None else []
        self.entries = [*catalogue(), *own]
        self.methods: Registry[Method] = Registry("method", "--method")
        self.datasets: Registry[DataSet] = Registry("data set", "--dataset", lambda name: self._seek("datasets", name))
        self.networks: Registry[Network] = NetworkRegistry(
            "network", "--teacher.network / --student.network", lambda name: self._seek("networks", name)
        )
        self.attacks: Registry[Attack] = Registry(
            "attack", "--evaluation.protocol", lambda name: self._seek("attacks", name)
        )
        self.recipes: Registry[StudentRecipe] = Registry(
            "recipe", "--student.protocol", lambda name: self._seek("recipes", name)
        )
        self.augmentations: Registry[Augmentation] = Registry(
            "augmentation", "--student.augment", lambda name: self._seek("augmentations", name)
        )
        self.broken: dict[str, Broken] = {}
        self.changes: dict[str, list[str]] = {}
        self._strict = os.environ.get("GUARD_STRICT_PLUGINS") == "1"
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        for module in BUILT_IN:
            self._admit(module, f"guard-plugins {__version__}", importlib.import_module(module))
        self._files = own
        self._waiting = [*own, *(entry for entry in self.entries if entry.status == "enabled" and entry not in own)]
        for entry in [*self._waiting]:
            if only is None or entry.name in only or entry in own:
                self._load(entry)

    def method(self, name: str) -> type[Method]:
        """Return the method called ``name``.

        Raises:
            ConfigError: If no plugin provides it; the nearest match is offered.
            PluginError: If its plugin is broken, disabled, or two distributions claim the name.
        """
        if name in self.broken:
            raise self.broken[name].error()
        if name in self.methods:
            for rival in [e for e in self.entries if e.name == name and e.status == "clash"]:
                sys.stderr.write(f"warning: {rival.origin} claims the name {name!r}, too; it is not used\n")
            return self.methods[name]
        for entry in self._files:
            if entry.name in self.broken:
                raise self.broken[entry.name].error()  # perhaps the method is in there
        claims = claims_of(name, self.entries)
        if all(entry.status == "disabled" for entry in claims):
            raise PluginError(f"The method {name!r} is disabled", do=f"Add {name} to GUARD_PLUGINS, or unset it.")
        rivals = [entry for entry in claims if entry.status == "clash"]
        if rivals:
            raise PluginError(
                f"Two distributions provide a method called {name!r}",
                seen=" and ".join(entry.origin for entry in rivals),
                do=f"Uninstall one of them, or choose one: GUARD_PLUGINS='{name}@{rivals[0].distribution},*'",
            )
        return self.methods[name]

    def _seek(self, kind: str, name: str) -> None:
        """Load the plugins that wait, the one of that name first, until ``name`` is registered."""
        for entry in sorted(self._waiting, key=lambda entry: entry.name != name):
            self._load(entry)
            if name in set(getattr(self, kind)):
                return

    def _load(self, entry: Entry) -> None:
        self._waiting.remove(entry)
        changes: list[str] = []
        try:
            with fenced(changes):
                plugin = entry.point.load()
                require_compatible(plugin, f"The plugin {entry.name!r}")
                self._admit(entry.name, entry.origin, plugin, entry)
        except Interrupted:
            raise KeyboardInterrupt from None
        except BaseException as error:  # a plugin may raise anything; the others still load
            if self._strict:
                raise
            reason = str(error).splitlines()[0] if str(error) else ""
            reason = reason if isinstance(error, PluginError) else f"{type(error).__name__}: {reason}".rstrip(": ")
            remedy = error.do if isinstance(error, PluginError) else ""
            self.broken[entry.name] = Broken(entry.name, entry.origin, reason, traceback.format_exc(), remedy)
        if changes:
            self.changes[entry.name] = changes
            said = "; ".join(changes)
            sys.stderr.write(f"warning: plugin {entry.name!r} of {entry.origin}, when it was loaded, {said}\n")

    def _admit(self, name: str, origin: str, plugin: Any, entry: Entry | None = None) -> None:
        """Register a plugin and collect what it returns, or leave no trace of it."""
        self._manager.register(plugin, name=name)
        try:
            self._manager.check_pending()
            found = {kind: self._collect(kind, plugin) for kind in KINDS}
            for kind, classes in found.items():
                getattr(self, kind).refuse_taken(classes, origin)
            if entry is not None:
                self._require_own_names(entry, [name_of(value) for value in found["methods"]], plugin)
        except BaseException:
            self._manager.unregister(plugin)
            raise
        for kind, classes in found.items():
            for value in classes:
                getattr(self, kind).add(value, name, origin)

    def _require_own_names(self, entry: Entry, names: Sequence[str], plugin: Any) -> None:
        """Refuse methods with the name of another plugin's entry point, and an entry point without its method."""
        for name in names:
            others = [e for e in self.entries if e.name == name and e.distribution != entry.distribution]
            for other in [e for e in others if e.status == "enabled" and e.origin != entry.origin]:
                raise PluginError(
                    f"{entry.origin} registers the method {name!r}, which {other.origin} already provides",
                    do=f"Uninstall {entry.distribution}, or ask its authors to rename theirs.",
                )
        hooked = self._manager.subset_hook_caller("register_methods", self._others(plugin)).get_hookimpls()
        if hooked and entry.name not in names and entry not in self._files:
            raise PluginError(
                f"the entry point {entry.name!r} registers no method of that name",
                do="Give the method and its entry point the same name.",
            )

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
