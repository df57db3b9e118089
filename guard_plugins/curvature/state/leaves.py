"""The leaves of autograd graphs: marking one, and finding those that a graph ends at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

_MARK = "guard_plugins: a recorded input"


def mark_leaf(leaf: Tensor) -> Any:
    """Mark the end of every graph that will start at ``leaf``; return what has to be kept until one does.

    The mark outlives the Python objects: a module may keep features whose record the loop dropped long ago.
    """
    node: Any = torch.autograd.graph.get_gradient_edge(leaf).node
    node.metadata[_MARK] = True
    return node


def is_marked(leaf: Tensor) -> bool:
    """Return whether a graph that starts at a marked leaf is still alive."""
    node: Any = torch.autograd.graph.get_gradient_edge(leaf).node
    return _MARK in node.metadata


def made_of_inputs(tensor: Tensor, is_input: Callable[[Tensor], bool]) -> bool:
    """Return whether ``tensor`` has a graph for no other reason than that x requires a gradient under the hook.

    Args:
        tensor: The tensor.
        is_input: Tells of a leaf whose end of the graph has no mark whether x became it.
    """
    found, stack, seen = False, [tensor.grad_fn], set[Any]()
    while stack:
        node: Any = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)
        if variable is not None and not (_MARK in node.metadata or is_input(variable)):
            return False
        found |= variable is not None
        stack.extend(parent for parent, _ in node.next_functions)
    return found


def leaves_reached(roots: Sequence[Any]) -> tuple[list[Tensor], bool]:
    """Return the leaves that the autograd graphs of ``roots`` reach, and whether one of them is a marked one."""
    found: dict[int, Tensor] = {}
    marked = False
    stack: list[Any] = [root.grad_fn for root in roots if isinstance(root, Tensor)]
    seen: set[Any] = set()
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)
        if variable is not None:
            found[id(variable)] = variable
            marked |= _MARK in node.metadata
        stack.extend(parent for parent, _ in node.next_functions)
    return list(found.values()), marked
