"""The plugin host: finds, loads and isolates plugins."""

from guard_plugins.host.configure import configure
from guard_plugins.host.discovery import Entry, catalogue, claims_of
from guard_plugins.host.plugin_host import PluginHost
from guard_plugins.host.registry import Broken, Registered, Registry

__all__ = ["Broken", "Entry", "PluginHost", "Registered", "Registry", "catalogue", "claims_of", "configure"]
