"""What is installed, read from entry-point metadata alone: no plugin is imported."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Literal

from guard_plugins.hookspecs import PROJECT
from guard_plugins.host.registry import unknown_name

Status = Literal["enabled", "disabled", "clash"]


@dataclass(frozen=True)
class Entry:
    """One installed entry point of the group ``guard_plugins``.

    Attributes:
        name: Name of the entry point, which is the name of the method.
        distribution: Name of the distribution that brings it.
        version: Version of that distribution.
        status: ``clash`` where another distribution uses the same name, ``disabled`` by ``GUARD_PLUGINS``.
        point: The entry point itself.
    """

    name: str
    distribution: str
    version: str
    status: Status
    point: EntryPoint

    @property
    def origin(self) -> str:
        """The distribution and its version, for messages."""
        return f"{self.distribution} {self.version}"


def allowed_names() -> frozenset[str] | None:
    """Return the names ``GUARD_PLUGINS`` restricts plugins to, or None where it is not set."""
    raw = os.environ.get("GUARD_PLUGINS")
    return None if raw is None else frozenset(name.strip() for name in raw.split(",") if name.strip())


def catalogue() -> list[Entry]:
    """Return every installed entry point, by name, then distribution."""
    allowed = allowed_names()
    points = _unique(entry_points(group=PROJECT))
    count = Counter(point.name for point in points)
    entries = [Entry(point.name, *_distribution(point), _status(point.name, count, allowed), point) for point in points]
    return sorted(entries, key=lambda entry: (entry.name, entry.distribution))


def _unique(points: Iterable[EntryPoint]) -> list[EntryPoint]:
    # A checkout on sys.path beside its own installation lists the same distribution twice.
    seen = {(point.name, _distribution(point)[0], point.value): point for point in points}
    return list(seen.values())


def _distribution(point: EntryPoint) -> tuple[str, str]:
    return (point.dist.name, point.dist.version) if point.dist else ("unknown", "?")


def _status(name: str, count: Counter[str], allowed: frozenset[str] | None) -> Status:
    if allowed is not None and name not in allowed:
        return "disabled"
    return "clash" if count[name] > 1 else "enabled"


def claims_of(method: str, entries: Sequence[Entry]) -> list[Entry]:
    """Return the entries that claim to provide ``method``, from metadata alone.

    Raises:
        ConfigError: If there is none; the nearest match is offered.
    """
    claims = [entry for entry in entries if entry.name == method]
    if not claims:
        raise unknown_name("method", "--method", method, {entry.name for entry in entries})
    return claims
