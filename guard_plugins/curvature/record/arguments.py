"""The tensors among the arguments of a function, and whether those among them that are recorded can be made again."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from guard_plugins.curvature.record.graph import SPENT, Call, Kept, Lean, Node, Output, Unrepeatable, WrittenInto, now
from guard_plugins.curvature.state.pytree import tensors_of


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
