"""Registers the built-in data sets through the hook every plugin uses."""

from __future__ import annotations

from guard_plugins.data.base import DataSet
from guard_plugins.data.cifar import Cifar10, Cifar100
from guard_plugins.data.digits import Digits
from guard_plugins.data.folder import Folder
from guard_plugins.data.imagenet import ImageNet, Imagenette
from guard_plugins.data.tiny_imagenet import TinyImageNet
from guard_plugins.hookspecs import hookimpl


@hookimpl
def register_datasets() -> list[type[DataSet]]:
    """Return the data sets that ship with the project."""
    return [Digits, Folder, Cifar10, Cifar100, TinyImageNet, Imagenette, ImageNet]
