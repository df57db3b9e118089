"""What is known of one tensor of the loop."""

from __future__ import annotations

import weakref

from torch import Tensor, nn

from guard_plugins.curvature.record.graph import Node, Token


class Known:
    """What is known of one tensor.

    Attributes:
        node: How it was made from x, if it was.
        stamp: Its version counter when ``node`` was noted; a later one means that it was written since.
        token: Stands for it in the lineage of others.
        ancestors: What it was computed from.
        features: Name of the frozen module it comes from, or an empty string.
        shadow: The tensor whose ``.data`` it is.
        leaf: What ``hook.watch`` made of it.
        attacked: Whether it comes from a model whose input required a gradient already.
        written: Moment of the latest write through its ``.data``.
        transformed: Whether it comes from within a transform of ``torch.func``.
        cut: The recorded steps that it was computed from before it was detached, or without gradients.
        unseen: Whether such a transform may have given it without being seen, as ``torch.func.grad`` does.
    """

    __slots__ = (
        "ancestors", "attacked", "cut", "features", "leaf", "node", "ref", "shadow", "stamp", "token", "transformed",
        "unseen", "written",
    )  # fmt: skip

    def __init__(self, ref: weakref.ref[Tensor], tensor: Tensor, step: int) -> None:
        self.ref, self.token = ref, Token(tensor, step)
        self.node: Node | None = None
        self.stamp, self.written = 0, -1
        self.ancestors: frozenset[Token] = frozenset()
        self.cut: frozenset[weakref.ref[Node]] = frozenset()
        self.features = ""
        self.shadow: weakref.ref[Tensor] | None = None
        self.leaf: weakref.ref[Tensor] | None = None
        self.attacked = self.transformed = self.unseen = False


def is_data(tensor: Tensor) -> bool:
    """Return whether ``tensor`` may be a batch: floating-point, with a dimension, not a weight."""
    return tensor.is_floating_point() and tensor.dim() > 0 and not isinstance(tensor, nn.Parameter)


def version_of(tensor: Tensor) -> int:
    """Return the version counter of ``tensor``; tensors made under inference_mode have none."""
    return 0 if tensor.is_inference() else tensor._version
