"""The contract of augmentations, as one call."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from guard_plugins.data.augment import Augmentation, View
from guard_plugins.errors import GuardError
from guard_plugins.host.validation import check_class
from guard_plugins.runtime.seeds import preserved_streams
from guard_plugins.testing.promises import BrokenPromiseError
from guard_plugins.training.augmentation import Augmenter

SHAPES = ((1, 8, 8), (3, 32, 32), (3, 20, 28))
"""Channels and sides of the images that are tried."""
COUNT = 6
"""Images of a batch."""


def check_augmentation(augmentation: type[Augmentation]) -> None:
    """Check that an augmentation can be drawn, stored and applied again, on a few small images.

    Args:
        augmentation: Its class; it need not be installed.

    Raises:
        BrokenPromiseError: If a promise is broken; its ``promise`` says which, its text what was seen.
    """
    try:
        check_class("augmentations", augmentation)
    except GuardError as error:
        raise BrokenPromiseError("declaration", error.what, error.do) from error
    if not re.fullmatch(r"[a-z][a-z0-9-]*", augmentation.name):
        raise BrokenPromiseError("declaration", f"name = {augmentation.name!r}", "Use small letters, digits, hyphens.")
    summary = getattr(augmentation, "summary", "")
    if not summary.strip() or "\n" in summary:
        raise BrokenPromiseError("declaration", f"summary = {summary!r}", "Say in one line what it does.")
    with preserved_streams():
        for shape in SHAPES:
            try:
                _check_views(Augmenter(augmentation), shape)
            except GuardError as error:
                if isinstance(error, BrokenPromiseError):
                    raise
                raise BrokenPromiseError("view", f"on images {shape}: {error.what}") from error


def _check_views(augment: Augmenter, shape: tuple[int, int, int]) -> None:
    images = torch.rand((COUNT, *shape), generator=torch.Generator().manual_seed(0))
    kept, size = images.clone(), (shape[1], shape[2])
    view = _drawn(augment, 1, size)
    if not _equal(view, _drawn(augment, 1, size)):
        raise BrokenPromiseError(
            "seed", "the same state of PyTorch's global stream gave other views",
            "Draw from torch.rand and its kin, without a generator, and keep nothing between calls.",
        )  # fmt: skip
    before = torch.get_rng_state()
    made = augment.apply(images, view)
    if not torch.equal(before, torch.get_rng_state()):
        raise BrokenPromiseError("view", "apply drew random numbers", "Draw all of them in `draw`, and return them.")
    if not torch.equal(images, kept):
        raise BrokenPromiseError("view", "apply changed the images it was given", "Work on a copy.")
    if not bool(torch.isfinite(made).all()) or float(made.min()) < 0 or float(made.max()) > 1 + 1e-6:
        raise BrokenPromiseError(
            "view",
            f"pixels from {float(made.min()):.4g} to {float(made.max()):.4g}",
            "Clamp them to [0, 1].",
        )
    for rows in (torch.tensor([3]), torch.tensor([5, 0, 2])):
        if not torch.equal(augment.apply(images[rows], _rows(view, rows)), made[rows]):
            raise BrokenPromiseError(
                "view", "an image's view changes with the others in its batch",
                "Change each image by its own numbers alone, with operations that do not look at the batch.",
            )  # fmt: skip


def _drawn(augment: Augmenter, seed: int, size: tuple[int, int]) -> View:
    torch.manual_seed(seed)
    return augment.draw(COUNT, size)


def _rows(view: View, rows: Tensor) -> View:
    return View(*(None if part is None else part[rows] for part in view))


def _equal(one: View, other: View) -> bool:
    pairs = [(a, b) for a, b in zip(one, other, strict=True) if a is not None and b is not None]
    return all(torch.equal(a, b) for a, b in pairs)
