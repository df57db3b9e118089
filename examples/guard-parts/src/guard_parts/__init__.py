"""A plugin of guard-plugins with a data set, a network, an augmentation and an attack, but no method."""

from guard_parts.brightness import Brightness
from guard_parts.light import Light
from guard_parts.mlp import MLP
from guard_parts.shapes import Shapes
from guard_plugins import hookimpl
from guard_plugins.attacks.base import Attack
from guard_plugins.data.augment import Augmentation
from guard_plugins.data.base import DataSet
from guard_plugins.networks.base import Network

guard_api = 1


@hookimpl
def register_datasets() -> list[type[DataSet]]:
    """Register the data set: ``--dataset shapes``."""
    return [Shapes]


@hookimpl
def register_networks() -> list[type[Network]]:
    """Register the network: ``--teacher.network mlp``."""
    return [MLP]


@hookimpl
def register_augmentations() -> list[type[Augmentation]]:
    """Register the augmentation: ``--student.augment crop-flip-light``."""
    return [Light]


@hookimpl
def register_attacks() -> list[type[Attack]]:
    """Register the attack: ``--evaluation.protocol brightness``."""
    return [Brightness]
