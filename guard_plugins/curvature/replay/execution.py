"""Making recorded nodes again: functions with their random streams, modules with the state they had."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from guard_plugins.curvature.record.graph import ModuleCall, Node, Operation, Output, WrittenInto
from guard_plugins.curvature.state.pytree import contents_of, map_leaves
from guard_plugins.curvature.state.snapshots import evaluation_mode, requiring_gradients
from guard_plugins.curvature.state.wrappers import without_ddp

Inside = Callable[[ModuleCall], AbstractContextManager[Any]]


def name_of(operation: Operation) -> str:
    """Return the name of the function that an operation calls."""
    return str(getattr(operation.function, "__name__", ""))


def execute(nodes: Sequence[Node], made: dict[int, Any], inside: Inside, *, evaluation: bool) -> dict[int, Any]:
    """Make ``nodes`` again, in their order, and return everything made, by the identity of its node.

    Args:
        nodes: In the order in which the loop made them.
        made: What stands in for the recorded inputs; the results are added to it.
        inside: Returns a context to call a module in.
        evaluation: Whether to call every module in eval mode.
    """

    def filled(leaf: Any) -> Any:
        return made[id(leaf)] if isinstance(leaf, Node) else leaf

    for node in nodes:
        match node:
            case Operation():
                if node.random is not None:
                    node.random.restore()
                args, kwargs = map_leaves(filled, (node.args, node.kwargs), {})
                with node.autocast.context():
                    made[id(node)] = node.function(*args, **kwargs)
            case ModuleCall():
                args, kwargs = map_leaves(filled, (node.args, node.kwargs), {})
                made[id(node)] = _called(node, args, kwargs, inside, evaluation=evaluation)
            case Output():
                made[id(node)] = contents_of(made[id(node.call)])[node.index]
            case WrittenInto():
                made[id(node)] = made[id(node.target)]
    return made


def _called(call: ModuleCall, args: Any, kwargs: Any, inside: Inside, *, evaluation: bool) -> Any:
    """Call a module again with the attributes it had: the loop may have set others on it since."""
    call.attributes.restore()
    call.before.put()
    call.random.restore()
    mode = evaluation_mode([call.module]) if evaluation else nullcontext()
    with mode, call.autocast.context(), requiring_gradients(call.parameters, call.trainable), inside(call):
        result = without_ddp(call.module)(*args, **kwargs)
    return [result, args, kwargs] if call.fills else result
