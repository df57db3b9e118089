"""The plugin host: finds, loads and isolates plugins."""

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from guard_plugins.host.by_size import chosen_note
    from guard_plugins.host.configure import resolve
    from guard_plugins.host.discovery import Entry, catalogue, claims_of
    from guard_plugins.host.plugin_host import PluginHost
    from guard_plugins.host.registry import Broken, Registered, Registry

__all__ = [
    "Broken",
    "Entry",
    "PluginHost",
    "Registered",
    "Registry",
    "catalogue",
    "chosen_note",
    "claims_of",
    "resolve",
]

# On first use, so that help and listings do not wait for what they do not need.
_HOMES: Final = {
    "chosen_note": "guard_plugins.host.by_size",
    "resolve": "guard_plugins.host.configure",
    "PluginHost": "guard_plugins.host.plugin_host",
    **dict.fromkeys(("Entry", "catalogue", "claims_of"), "guard_plugins.host.discovery"),
    **dict.fromkeys(("Broken", "Registered", "Registry"), "guard_plugins.host.registry"),
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
