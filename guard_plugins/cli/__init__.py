"""The commands: guard-run and guard-plugins."""
