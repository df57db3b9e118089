"""Every hook a plugin may implement; each returns a list of classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pluggy

if TYPE_CHECKING:
    from guard_plugins.attacks.base import Attack
    from guard_plugins.data.augment import Augmentation
    from guard_plugins.data.base import DataSet
    from guard_plugins.method import Method
    from guard_plugins.networks.base import Network
    from guard_plugins.training.recipes import StudentRecipe

PROJECT: Final = "guard_plugins"
"""Name of the pluggy project and of the entry-point group."""

API_VERSION: Final = 1
"""Raised when a hook or base class changes in a way that breaks existing plugins."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def register_methods() -> list[type[Method]]:  # type: ignore[empty-body]
    """Return the distillation methods of this plugin."""


@hookspec
def register_datasets() -> list[type[DataSet]]:  # type: ignore[empty-body]
    """Return the data sets of this plugin."""


@hookspec
def register_networks() -> list[type[Network]]:  # type: ignore[empty-body]
    """Return the network architectures of this plugin."""


@hookspec
def register_recipes() -> list[type[StudentRecipe]]:  # type: ignore[empty-body]
    """Return the students' recipes of this plugin."""


@hookspec
def register_augmentations() -> list[type[Augmentation]]:  # type: ignore[empty-body]
    """Return the augmentations of training images of this plugin."""


@hookspec
def register_attacks() -> list[type[Attack]]:  # type: ignore[empty-body]
    """Return the attacks of this plugin."""
