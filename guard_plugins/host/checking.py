"""Loads every plugin in a process of its own, so that none can hide, break or end another's check."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from guard_plugins.host.discovery import catalogue, described
from guard_plugins.host.plugin_file import PluginFile, file_entries, files_of_environment
from guard_plugins.host.plugin_host import PluginHost

PARTS: Final = ("datasets", "networks", "recipes", "augmentations", "attacks")


def check_all() -> list[dict[str, Any]]:
    """Return a row for every plugin: what it is, and for an enabled one its health and what it brings.

    ``health`` is ``ok``, ``broken``, or ``careless`` where loading it changed the process for everybody, with a
    ``reason``. ``guards`` and ``summary`` are of its method; ``parts`` has the names of its other classes by kind.

    Raises:
        ConfigError: If a file of ``GUARD_PLUGIN_FILES`` cannot be read.
    """
    rows = []
    for entry in [*catalogue(), *file_entries(files_of_environment())]:
        row = described(entry)
        if entry.status == "enabled":
            row |= _checked(entry.name, [entry.point.path] if isinstance(entry.point, PluginFile) else [])
        rows.append(row)
    return rows


def _checked(name: str, files: Sequence[Path]) -> dict[str, Any]:
    if os.environ.get("GUARD_STRICT_PLUGINS") == "1":
        return _load(name, files)  # here, so that the original error comes out
    sys.stdout.flush()
    sys.stderr.flush()
    # A fork knows this process's modules already; elsewhere than on Linux it is not safe.
    context: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(theirs, name, list(files)))
    process.start()
    theirs.close()
    try:
        found: dict[str, Any] = ours.recv()
    except EOFError:
        found = {}
    process.join()
    return found or {"health": "broken", "reason": f"it ended the process (exit code {process.exitcode})"}


def _answer(connection: Connection, name: str, files: Sequence[Path]) -> None:
    connection.send(_load(name, files))
    connection.close()


def _load(name: str, files: Sequence[Path]) -> dict[str, Any]:
    """Load one plugin and return its health and what it brings."""
    host = PluginHost(only=[name], files=files)
    if name in host.broken:
        return {"health": "broken", "reason": host.broken[name].reason}
    found: dict[str, Any] = {"health": "ok"}
    if name in host.changes:
        found = {"health": "careless", "reason": "when it is loaded it " + "; ".join(host.changes[name])}
    for method in _names(host.methods, name):
        value = host.methods[method]
        found |= {"guards": list(value.guarded), "summary": value.summary}
    return {**found, "parts": {kind: _names(getattr(host, kind), name) for kind in PARTS}}


def _names(registry: Any, plugin: str) -> list[str]:
    return [name for name in registry if registry.registered(name).plugin == plugin]
