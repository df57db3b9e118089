"""EDC (Shao et al., NeurIPS 2024, arXiv 2404.13733), the successor of G-VBSM, as a plugin of guard-plugins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guard_plugins import Method, hookimpl

if TYPE_CHECKING:
    from guard_plugins.networks.base import Network
    from guard_plugins.training.recipes import StudentRecipe

guard_api = 1


@hookimpl
def register_methods() -> list[type[Method]]:
    """Register the method."""
    from guard_edc.method import EDC

    return [EDC]


@hookimpl
def register_networks() -> list[type[Network]]:
    """Register the published backbones that guard-plugins does not have."""
    from guard_edc.networks import NETWORKS

    return [*NETWORKS]


@hookimpl
def register_recipes() -> list[type[StudentRecipe]]:
    """Register the recipe of EDC's students."""
    from guard_edc.recipe import EDCStudents

    return [EDCStudents]
