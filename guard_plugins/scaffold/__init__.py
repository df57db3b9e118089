"""``guard-plugins new NAME``: a complete plugin distribution to start from."""

from guard_plugins.scaffold.write import write_file, write_plugin

__all__ = ["write_file", "write_plugin"]
