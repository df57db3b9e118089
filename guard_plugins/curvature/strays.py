"""Gradients left in weights by backward calls outside the record."""

from __future__ import annotations

import weakref
from collections.abc import Iterable

from torch import Tensor


class Strays:
    """Remembers which weights hold such gradients, until they are gone.

    An attack inside the loop leaves them too, and zeroes them before the training step; so only what is still there
    when an optimiser steps counts.
    """

    def __init__(self) -> None:
        self._left: dict[int, tuple[weakref.ref[Tensor], int, int, str]] = {}

    def note(self, leaves: Iterable[Tensor], what: str) -> None:
        """Note that the gradients now in ``leaves`` come, at least in part, from an unseen backward call."""
        for leaf in leaves:
            if leaf.grad is not None:
                self._left[id(leaf)] = (weakref.ref(leaf), leaf.grad.data_ptr(), leaf.grad._version, what)

    def settle(self) -> None:
        """Drop those that were zeroed, replaced or removed; to be called before gradients are added to."""
        for key in list(self._left):
            ref, pointer, version, what = self._left[key]
            leaf = ref()
            grad = None if leaf is None else leaf.grad
            if grad is None or grad.data_ptr() != pointer:
                del self._left[key]
            elif grad._version != version:
                # scaled, clipped or zeroed in place: only its numbers tell
                if bool(grad.any()):
                    self._left[key] = (ref, pointer, grad._version, what)
                else:
                    del self._left[key]

    def refresh(self) -> None:
        """Accept that gradients were added to those that are still there."""
        for key, (ref, _, _, what) in list(self._left.items()):
            leaf = ref()
            if leaf is not None and leaf.grad is not None:
                self._left[key] = (ref, leaf.grad.data_ptr(), leaf.grad._version, what)

    def among(self, weights: Iterable[Tensor]) -> list[str]:
        """Return what left its gradients in ``weights``, one entry per weight."""
        if not self._left:
            return []
        self.settle()
        found = (self._left.get(id(weight)) for weight in weights)
        return [entry[3] for entry in found if entry is not None]
