"""What the loaded plugins registered, looked up by name with errors a person can act on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from guard_plugins.config.nearest import nearest
from guard_plugins.errors import ConfigError, PluginError

T = TypeVar("T")

HASHED: Final = "sha256:"
"""Begins the version of a plugin that is a file."""


@dataclass(frozen=True)
class Registered(Generic[T]):
    """A registered class and the distribution (with version) it came from."""

    value: type[T]
    plugin: str
    origin: str


@dataclass(frozen=True)
class Broken:
    """A plugin that could not be used, with the reason in one line and in full, and the remedy where one is known."""

    plugin: str
    origin: str
    reason: str
    traceback: str
    remedy: str = ""

    def error(self) -> PluginError:
        """Return the error to raise when this plugin is asked for."""
        return PluginError(
            f"The plugin {self.plugin!r} of {self.origin} is broken: {self.reason}",
            seen=self.traceback.strip() or self.reason,
            do=" ".join(filter(None, [self.remedy, self._general_remedy()])),
        )

    def _general_remedy(self) -> str:
        return f"{whom_to_ask(self.origin)}. Other methods still work."


def whom_to_ask(origin: str) -> str:
    """Return what a user does about faulty code.

    Args:
        origin: Its distribution and version, or its file and hash.
    """
    name, _, version = origin.partition(" ")
    return f"Correct {name}" if version.startswith(HASHED) else f"Update or uninstall {name}, or tell its authors"


class UnknownNameError(ConfigError, KeyError):
    """A name nobody registered."""


class Registry(Mapping[str, type[T]]):
    """Classes of one kind by name: a mapping whose missing names raise an error that offers the nearest ones.

    Args:
        kind: What users call them (``data set``); used in messages.
        option: The flag that names one; used in messages.
        seek: Called with a name that is asked for and not there, to register it after all; may do nothing.
    """

    def __init__(self, kind: str, option: str, seek: Callable[[str], None] = lambda name: None) -> None:
        self.kind, self.option, self._seek = kind, option, seek
        self._entries: dict[str, Registered[T]] = {}

    def __getitem__(self, name: str) -> type[T]:
        """Return the class called ``name``.

        Raises:
            UnknownNameError: If there is none; the nearest name is offered.
        """
        return self.registered(name).value

    def __iter__(self) -> Iterator[str]:
        """Yield the names that are registered so far."""
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def registered(self, name: str) -> Registered[T]:
        """Return the class called ``name`` with the plugin and distribution it came from.

        Raises:
            UnknownNameError: If there is none; the nearest name is offered.
        """
        if name not in self._entries:
            self._seek(name)
        if name not in self._entries:
            raise unknown_name(self.kind, self.option, name, self)
        return self._entries[name]

    def refuse_taken(self, classes: Iterable[type[T]], origin: str) -> None:
        """Check that no name of ``classes`` is taken.

        Args:
            classes: What a plugin is about to register.
            origin: Its distribution and version.

        Raises:
            PluginError: If another plugin already registered one of the names.
        """
        for name in (name_of(value) for value in classes):
            if name in self._entries:
                raise PluginError(
                    f"{origin} registers the {self.kind} {name!r}, which {self._entries[name].origin} already provides",
                    do=_rename(origin),
                )

    def add(self, value: type[T], plugin: str, origin: str) -> None:
        """Register a class under its ``name``.

        Args:
            value: The class.
            plugin: Name of the plugin's entry point.
            origin: The distribution and version it came from.
        """
        self._entries[name_of(value)] = Registered(value, plugin, origin)


def _rename(origin: str) -> str:
    name, _, version = origin.partition(" ")
    if version.startswith(HASHED):
        return f"Rename it in {name}."
    return f"Uninstall one of the two, or ask the authors of {name} to rename theirs."


def name_of(value: type[object]) -> str:
    """Return the name of a registered class."""
    name: str = value.name  # type: ignore[attr-defined]
    return name


def unknown_name(kind: str, option: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """Return the error for a name nobody registered, with the nearest match first."""
    names = sorted(known)
    near = nearest(name, names, cutoff=0.5)
    hint = f"Did you mean {near!r}? " if near else ""
    listing = "guard-plugins" if kind == "method" else "guard-plugins --check"  # the first loads nothing
    return UnknownNameError(
        f"Unknown {kind} {name!r} ({option})", seen=f"known: {', '.join(names) or 'none'}",
        do=f"{hint}Pick one of the known names, or install the plugin that provides it (`{listing}` lists them).",
    )  # fmt: skip
