"""Loops under the hook, plugins, benchmarks and experiments; a package, so that no other one of this name is found."""
