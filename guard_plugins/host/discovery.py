"""What is installed, read from entry-point metadata alone: no plugin is imported."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final, Literal, Protocol

from guard_plugins.hookspecs import PROJECT
from guard_plugins.host.registry import unknown_name

Status = Literal["enabled", "disabled", "clash"]

OWN: Final = "guard-plugins"
"""The project's own distribution; a foreign one cannot take the names of its methods."""


class Loadable(Protocol):
    """What gives a plugin object: an installed entry point, a file, or a class."""

    def load(self) -> Any:
        """Return the plugin object."""


@dataclass(frozen=True)
class Entry:
    """One plugin: an installed entry point of the group ``guard_plugins``, or a file.

    Attributes:
        name: Name of the entry point, which is the name of the method; of a file, its own.
        distribution: Name of the distribution that brings it; of a file, its own.
        version: Version of that distribution; of a file, the start of its SHA-256.
        status: ``clash`` where another distribution uses the same name, ``disabled`` by ``GUARD_PLUGINS``.
        point: The entry point itself, or what stands for it.
    """

    name: str
    distribution: str
    version: str
    status: Status
    point: EntryPoint | Loadable

    @property
    def origin(self) -> str:
        """The distribution and its version, for messages."""
        return f"{self.distribution} {self.version}"


@dataclass(frozen=True)
class Choice:
    """What ``GUARD_PLUGINS`` says: ``mine,sre2l`` are the only plugins; ``mine@guard-a,*`` are all, with one choice.

    Attributes:
        names: The plugins that may be used; None for all.
        distributions: The distribution whose plugin of a name is meant, by name.
    """

    names: frozenset[str] | None
    distributions: dict[str, str]

    @classmethod
    def of_environment(cls) -> Choice:
        """Return the choice of the environment; all where nothing is set."""
        raw = os.environ.get("GUARD_PLUGINS")
        words = [word.strip() for word in (raw or "").split(",") if word.strip()]
        chosen = {name: distribution for name, at, distribution in (word.partition("@") for word in words) if at}
        everything = raw is None or "*" in words
        return cls(None if everything else frozenset(word.partition("@")[0] for word in words), chosen)

    def allows(self, name: str, distribution: str) -> bool:
        """Return whether a distribution's plugin may be used.

        Args:
            name: Name of the entry point.
            distribution: Name of the distribution.
        """
        return (self.names is None or name in self.names) and self.distributions.get(name, distribution) == distribution


def catalogue() -> list[Entry]:
    """Return every installed entry point, by name, then distribution."""
    choice = Choice.of_environment()
    points = _unique(entry_points(group=PROJECT))
    rivals = Counter(point.name for point in points if choice.allows(point.name, _distribution(point)[0]))
    entries = [Entry(point.name, *_distribution(point), _status(point, rivals, choice), point) for point in points]
    return sorted(entries, key=lambda entry: (entry.name, entry.distribution))


def _unique(points: Iterable[EntryPoint]) -> list[EntryPoint]:
    # A checkout on sys.path beside its own installation lists the same distribution twice.
    seen = {(point.name, _distribution(point)[0], point.value): point for point in points}
    return list(seen.values())


def _distribution(point: EntryPoint) -> tuple[str, str]:
    return (point.dist.name, point.dist.version) if point.dist else ("unknown", "?")


def _status(point: EntryPoint, rivals: Counter[str], choice: Choice) -> Status:
    distribution = _distribution(point)[0]
    if not choice.allows(point.name, distribution):
        return "disabled"
    return "clash" if rivals[point.name] > 1 and distribution != OWN else "enabled"


def claims_of(method: str, entries: Sequence[Entry]) -> list[Entry]:
    """Return the entries that claim to provide ``method``, from metadata alone.

    Raises:
        ConfigError: If there is none; the nearest match is offered.
    """
    claims = [entry for entry in entries if entry.name == method]
    if not claims:
        raise unknown_name("method", "--method", method, {entry.name for entry in entries})
    return claims


def described(entry: Entry) -> dict[str, Any]:
    """Return what is known of a plugin without loading it."""
    return {
        "name": entry.name, "distribution": entry.distribution, "version": entry.version, "status": entry.status,
    }  # fmt: skip
