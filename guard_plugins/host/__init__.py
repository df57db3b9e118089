"""The plugin host: finds, loads and isolates plugins."""

from guard_plugins.host.catalogue import Entry, catalogue
from guard_plugins.host.loading import PluginHost
from guard_plugins.host.registry import Broken, Registered, Registry, claims_of

__all__ = ["Broken", "Entry", "PluginHost", "Registered", "Registry", "catalogue", "claims_of"]
