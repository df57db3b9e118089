"""The data sets, networks and attacks that ship with the project, registered through the hooks every plugin uses.

Nothing is listed here: a class of ``data/datasets/``, ``networks/catalogue.py`` or ``attacks/`` is found by its base.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import TYPE_CHECKING

from guard_plugins.data import datasets
from guard_plugins.data.base import DataSet
from guard_plugins.hookspecs import hookimpl
from guard_plugins.networks.base import Network

if TYPE_CHECKING:
    from types import ModuleType

    from guard_plugins.attacks.base import Attack
    from guard_plugins.data.augment import Augmentation
    from guard_plugins.training.recipes import StudentRecipe


@hookimpl
def register_datasets() -> list[type[DataSet]]:
    """Return the data sets of :mod:`guard_plugins.data.datasets`."""
    return [value for value in _named_classes(_modules(datasets)) if issubclass(value, DataSet)]


@hookimpl
def register_networks() -> list[type[Network]]:
    """Return the architectures of :mod:`guard_plugins.networks.catalogue`."""
    from guard_plugins.networks import catalogue

    return [value for value in _named_classes([catalogue]) if issubclass(value, Network)]


@hookimpl
def register_recipes() -> list[type[StudentRecipe]]:
    """Return the recipes of :mod:`guard_plugins.training.recipes`."""
    from guard_plugins.training.recipes import BUILT_IN

    return [*BUILT_IN]


@hookimpl
def register_augmentations() -> list[type[Augmentation]]:
    """Return the augmentations of :mod:`guard_plugins.data.augment`."""
    from guard_plugins.data import augment

    return [value for value in _named_classes([augment]) if issubclass(value, augment.Augmentation)]


@hookimpl
def register_attacks() -> list[type[Attack]]:
    """Return the attacks of :mod:`guard_plugins.attacks`; their modules, and so torch, are imported here."""
    from guard_plugins import attacks
    from guard_plugins.attacks.base import Attack

    return [value for value in _named_classes(_modules(attacks)) if issubclass(value, Attack)]


def _modules(package: ModuleType) -> list[ModuleType]:
    names = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    return [importlib.import_module(f"{package.__name__}.{name}") for name in names]


def _named_classes(modules: list[ModuleType]) -> list[type]:
    """Return the classes with a name of their own that the modules define, in the order of their text."""
    return [
        value
        for module in modules
        for value in vars(module).values()
        if inspect.isclass(value) and value.__module__ == module.__name__ and isinstance(vars(value).get("name"), str)
    ]
