"""Augmentation of training images: by name, with checks on those of plugins, and the mixing of two images."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

import torch
from torch import Tensor

from guard_plugins.data.augment import (
    Augmentation,
    Crop,
    CropFlip,
    ResizedCropFlip,
    View,
    Whole,
    largest_offset,
)
from guard_plugins.data.mixing import Mix, draw_cutmix, draw_mixup
from guard_plugins.errors import GuardError, PluginError
from guard_plugins.runtime.memory import out_of_memory
from guard_plugins.training.parts import ALL, Rows
from guard_plugins.training.recipes import Recipe

BUILT_IN: Final[Mapping[str, type[Augmentation]]] = MappingProxyType(
    {kind.name: kind for kind in (Whole, Crop, CropFlip, ResizedCropFlip)}
)
"""The augmentations that ship with the project."""


class Augmenter:
    """Draws and applies an augmentation; what a plugin's does wrong is an error that names it.

    Attributes:
        kind: The augmentation.
        own: Whether it ships with the project.

    Args:
        kind: The augmentation's class.
    """

    def __init__(self, kind: type[Augmentation]) -> None:
        self.kind, self.own = kind, kind in BUILT_IN.values()
        self._augmentation = kind()

    def draw(self, count: int, size: tuple[int, int]) -> View:
        """Return random views of ``count`` images of (H, W), drawn from PyTorch's global stream.

        Raises:
            PluginError: If they are not what the class declares.
        """
        if self.own:
            return self._augmentation.draw(count, size)
        with self._calling("draw"):
            view = self._augmentation.draw(count, size)
        problem = problem_with_view(view, self.kind, count, size)
        if problem:
            raise self._error(f"draw returned {problem}")
        return view

    def apply(self, images: Tensor, view: View) -> Tensor:
        """Return the views of images (B, C, H, W).

        Raises:
            PluginError: If they have another shape or type.
        """
        if self.own:
            return self._augmentation.apply(images, view)
        with self._calling("apply"):
            found = self._augmentation.apply(images, view)
        if not isinstance(found, Tensor) or found.shape != images.shape or found.dtype != images.dtype:
            seen = f"{tuple(found.shape)} {found.dtype}" if isinstance(found, Tensor) else type(found).__name__
            raise self._error(f"apply returned {seen} for {tuple(images.shape)} {images.dtype}")
        return found

    @contextlib.contextmanager
    def _calling(self, doing: str) -> Iterator[None]:
        try:
            yield
        except GuardError:
            raise
        except Exception as error:  # a plugin may raise anything
            if out_of_memory(error):
                raise
            raise self._error(f"{doing} raised {type(error).__name__}: {error}") from error

    def _error(self, what: str) -> PluginError:
        return PluginError(
            f"The augmentation {self.kind.name!r} of {self.kind.__module__} is not usable: {what}",
            do="Tell its authors, or choose another one (--student.augment, --teacher.augment); "
            "guard_plugins.testing.check_augmentation finds such mistakes.",
        )


def problem_with_view(view: object, kind: type[Augmentation], count: int, size: tuple[int, int]) -> str:
    """Return how views differ from what an augmentation declares, or an empty string.

    Args:
        view: What ``draw`` returned.
        kind: The augmentation.
        count: Number of images.
        size: Their (H, W).
    """
    if not isinstance(view, View):
        return f"a {type(view).__name__}, not a View"
    wanted = {
        "window": (torch.int64, (count, kind.window)) if kind.window else None,
        "flipped": (torch.bool, (count,)) if kind.flips else None,
        "numbers": (torch.float32, (count, kind.numbers)) if kind.numbers else None,
    }
    for name, expected in wanted.items():
        found = getattr(view, name)
        seen = None if found is None else (found.dtype, tuple(found.shape))
        if seen != expected or (found is not None and found.device.type != "cpu"):
            return f"{name} as {_said(seen)}, but the class declares {_said(expected)} on the CPU"
    if kind.window == 2 and view.window is not None and int(view.window.abs().max()) > largest_offset(size):
        return f"a window that is shifted by more than {largest_offset(size)} pixels"
    if view.numbers is not None and not bool(torch.isfinite(view.numbers).all()):
        return "numbers that are not finite"
    return ""


def _said(form: tuple[torch.dtype, tuple[int, ...]] | None) -> str:
    return "None" if form is None else f"{form[0]} of shape {form[1]}"


def augmenter(name: str, others: Mapping[str, type[Any]] = MappingProxyType({})) -> Augmenter:
    """Return the augmentation called ``name``.

    Args:
        name: Its name.
        others: The registered augmentations by name; those of the project are known without.

    Raises:
        ConfigError: If there is none.
    """
    return Augmenter(BUILT_IN.get(name) or others[name])


def augmentation(
    name: str, others: Mapping[str, type[Any]] = MappingProxyType({}), rows: Rows = ALL
) -> Callable[[Tensor], Tensor]:
    """Return a function that augments a batch (B, C, H, W), or those ``rows`` of it, see :func:`augmenter`."""
    named = augmenter(name, others)

    def augment(images: Tensor) -> Tensor:
        count = len(images) if rows.of == 1 else rows.total
        view = named.draw(count, (images.shape[-2], images.shape[-1]))
        return named.apply(images, View(*(None if drawn is None else rows.take(drawn) for drawn in view)))

    return augment


def draw_mix(recipe: Recipe, count: int, size: tuple[int, int]) -> Mix | None:
    """Return how a recipe mixes a batch, drawn from PyTorch's global stream; None if it does not mix.

    Args:
        recipe: The recipe; if it has both MixUp and CutMix, it is CutMix.
        count: Number of images.
        size: Their (H, W).
    """
    if recipe.cutmix:
        return draw_cutmix(count, size, alpha=recipe.cutmix)
    return draw_mixup(count, alpha=recipe.mixup) if recipe.mixup else None
