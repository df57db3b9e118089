"""Registers the built-in architectures through the hook every plugin uses."""

from __future__ import annotations

from guard_plugins.hookspecs import hookimpl
from guard_plugins.networks import catalogue
from guard_plugins.networks.base import Network


@hookimpl
def register_networks() -> list[type[Network]]:
    """Return the architectures that ship with the project."""
    return [
        catalogue.SmallResNetNetwork,
        catalogue.ResNet18,
        catalogue.ResNet34,
        catalogue.ResNet50,
        catalogue.ConvNet3,
        catalogue.ConvNet4,
        catalogue.ConvNet3BN,
        catalogue.ConvNet4BN,
    ]
