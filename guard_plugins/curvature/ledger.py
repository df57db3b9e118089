"""What is known of the loop's tensors, by identity: how they were made again, or what they were computed from.

The loop keeps its own plain tensors; the knowledge lives beside them and goes when they do.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from guard_plugins.curvature.graph import Node, Token, Unrepeatable, Watched, now

_VIEW_WRITE = "a tensor on the way to the loss was written through a view of it, or without gradients"


class Known:
    """What is known of one tensor.

    Attributes:
        node: How it was made from x, if it was.
        stamp: Its version counter when ``node`` was noted; a later one means that it was written since.
        token: Stands for it in the lineage of others.
        ancestors: What it was computed from.
        features: Name of the frozen module it comes from, or an empty string.
        shadow: The tensor whose ``.data`` it is.
        written: Moment of the latest write through its ``.data``.
    """

    __slots__ = ("ancestors", "features", "node", "ref", "shadow", "stamp", "token", "written")

    def __init__(self, ref: weakref.ref[Tensor], tensor: Tensor) -> None:
        self.ref, self.token = ref, Token(tensor)
        self.node: Node | None = None
        self.stamp, self.written = 0, -1
        self.ancestors: frozenset[Token] = frozenset()
        self.features = ""
        self.shadow: weakref.ref[Tensor] | None = None


class TensorLedger:
    """The knowledge of one session."""

    def __init__(self) -> None:
        self._known: dict[int, Known] = {}
        self.data_written = False

    def get(self, tensor: Tensor) -> Known | None:
        """Return what is known of ``tensor``, or None."""
        known = self._known.get(id(tensor))
        return known if known is not None and known.ref() is tensor else None

    def of(self, tensor: Tensor) -> Known:
        """Return what is known of ``tensor``; an empty entry is made where nothing is."""
        known = self.get(tensor)
        if known is None:
            key, entries = id(tensor), self._known
            known = entries[key] = Known(weakref.ref(tensor, lambda _: entries.pop(key, None)), tensor)
        return known

    def forget(self, tensor: Tensor) -> None:
        """Forget ``tensor``."""
        self._known.pop(id(tensor), None)

    def clear(self) -> None:
        """Forget everything."""
        self._known.clear()

    def node(self, tensor: Tensor) -> Node | None:
        """Return how ``tensor`` was made; a broken node where it was changed unseen; None for a plain tensor."""
        known = self.get(tensor)
        if known is None or known.node is None:
            return None
        if known.stamp != version_of(tensor) and not isinstance(known.node, Unrepeatable):
            known.node = Unrepeatable(now(), _VIEW_WRITE)
        return known.node.source(tensor) if isinstance(known.node, Watched) else known.node

    def mark(self, tensor: Tensor, node: Node) -> None:
        """Note that ``tensor`` was made by ``node``."""
        known = self.of(tensor)
        known.node, known.stamp = node, version_of(tensor)

    def lineage(self, tensors: Iterable[Tensor]) -> frozenset[Token]:
        """Return the tokens of ``tensors`` and of all they were computed from, weights left out."""
        found: set[Token] = set()
        for tensor in tensors:
            known = self.get(tensor)
            if known is None:
                if not is_data(tensor):
                    continue
                known = self.of(tensor)
            found.add(known.token)
            found |= known.ancestors
        return frozenset(token for token in found if token.alive())

    def features(self, tensors: Sequence[Tensor]) -> str:
        """Return the name of the frozen module one of ``tensors`` comes from, or an empty string."""
        known = (self.get(tensor) for tensor in tensors)
        return next((entry.features for entry in known if entry is not None and entry.features), "")


def is_data(tensor: Tensor) -> bool:
    """Return whether ``tensor`` may be a batch: floating-point, with a dimension, not a weight."""
    return tensor.is_floating_point() and tensor.dim() > 0 and not isinstance(tensor, nn.Parameter)


def base_of(tensor: Tensor) -> Tensor:
    """Return what ``tensor`` is a view of, or itself; a detached tensor is no view."""
    return tensor if tensor._base is None else tensor._base


def version_of(tensor: Tensor) -> int:
    """Return the version counter of ``tensor``; tensors made under inference_mode have none."""
    return 0 if tensor.is_inference() else tensor._version
