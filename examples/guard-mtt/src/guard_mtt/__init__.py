"""Trajectory matching (MTT, arXiv 2203.11932), with DATM's options (arXiv 2310.05773), as a plugin of guard-plugins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guard_plugins import Method, hookimpl

if TYPE_CHECKING:
    from guard_plugins.training.recipes import StudentRecipe

guard_api = 1


@hookimpl
def register_methods() -> list[type[Method]]:
    """Register the method."""
    from guard_mtt.method import MTT

    return [MTT]


@hookimpl
def register_recipes() -> list[type[StudentRecipe]]:
    """Register the recipe of MTT's students."""
    from guard_mtt.recipe import MTTStudents

    return [MTTStudents]
