"""The tensors among the arguments of a call, and whether those among them that are recorded can be made again."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from guard_plugins.curvature.record.graph import (
    SPENT,
    Call,
    Kept,
    Lean,
    Node,
    Operation,
    Output,
    Source,
    Token,
    Unrepeatable,
    WrittenInto,
    now,
)
from guard_plugins.curvature.record.known import version_of
from guard_plugins.curvature.state.pytree import tensors_of
from guard_plugins.curvature.state.snapshots import Autocast


def tensors_in(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """Return the tensors among the arguments of a torch function."""
    found: list[Tensor] = []
    for value in (*args, *kwargs.values()) if kwargs else args:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple, dict)):
            found.extend(tensors_of(value))
    return found


def without_record(nodes: Any) -> Node | None:
    """Return the node of results of which nothing is recorded: of a lean step, or spent; None where all is."""
    present = [node for node in nodes if node is not None]
    for node in present:
        if (gone := spent(node)) is not None:
            return gone
    return Lean(now()) if all(isinstance(node, Lean) for node in present) else None


def spent(node: Node) -> Unrepeatable | None:
    """Return the mark of a tensor whose record was forgotten, None of one that can still be made again."""
    if isinstance(node, Unrepeatable):
        return node if node.why == SPENT or isinstance(node, Kept) else None
    return node.call.spent if isinstance(node, (Output, WrittenInto)) and isinstance(node.call, Call) else None


def spent_behind(node: Node, known: dict[int, Unrepeatable | None]) -> Unrepeatable | None:
    """Return the mark of a tensor that ``node`` was made of and whose record was forgotten, None where all is there.

    Args:
        node: The node.
        known: What was found for others, by identity; it is added to, so that no node is looked at twice.
    """
    stack = [node]
    while stack:
        one = stack[-1]
        waiting = [] if id(one) in known or spent(one) else [p for p in one.parents if id(p) not in known]
        if waiting:
            stack += waiting
            continue
        stack.pop()
        if id(one) not in known:
            known[id(one)] = spent(one) or next(filter(None, (known[id(p)] for p in one.parents)), None)
    return known[id(node)]


def inputs_behind(node: Node | None) -> frozenset[Token]:
    """Return the inputs that a tensor was made of, as far as anything is known of them."""
    found, stack, seen = frozenset[Token](), [node], set[int]()
    while stack:
        one = stack.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        found |= {one.token} if isinstance(one, Source) else one.of if isinstance(one, Unrepeatable) else frozenset()
        stack += one.parents
    return found


def copyable(tensor: Tensor) -> bool:
    """Return whether a plain tensor is no more than its numbers: a view, or one with a graph, is."""
    return tensor.is_floating_point() and not tensor.requires_grad and tensor._base is None


def copy_of(before: Tensor) -> Node:
    """Return the node of a copy, for replays to write into: what a plain tensor was before the loop wrote into it."""
    autocast, stamps = Autocast.save(before.device.type), [version_of(before)]
    made = Operation(now(), (before,), {}, [], [before], autocast, torch.clone, None, stamps=stamps)
    return Output(now(), made, 0)


def linked(kept: list[Any]) -> tuple[list[Node], list[Tensor]]:
    """Return the nodes among the kept leaves of a call, and the plain tensors."""
    nodes = [leaf for leaf in kept if isinstance(leaf, Node)]
    return nodes, [leaf for leaf in kept if isinstance(leaf, Tensor)]


def register(call: Call) -> None:
    """Let each recorded input know that ``call`` needs its numbers."""
    for node in call.needs:
        if isinstance(node, Source):
            node.users.add(call)
