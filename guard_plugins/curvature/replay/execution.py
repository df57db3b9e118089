"""Making recorded nodes again: functions with their random streams, modules with the state they had."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor

from guard_plugins.curvature.messages import about_losses
from guard_plugins.curvature.record.graph import Call, ModuleCall, Node, Operation, Output, WrittenInto
from guard_plugins.curvature.state.pytree import alike_before, contents_of, form_of, map_leaves
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
                    made[id(node)] = _alike(node, node.function(*args, **kwargs), nodes, evaluation=evaluation)
            case ModuleCall():
                args, kwargs = map_leaves(filled, (node.args, node.kwargs), {})
                result = _called(node, args, kwargs, inside, evaluation=evaluation)
                made[id(node)] = _alike(node, result, nodes, evaluation=evaluation)
            case Output():
                made[id(node)] = contents_of(made[id(node.call)])[node.index]
            case WrittenInto():
                made[id(node)] = made[id(node.target)]
    return made


def _alike(call: Call, result: Any, nodes: Sequence[Node], *, evaluation: bool) -> Any:
    """Return ``result`` if what ``nodes`` take of it can be found by its place, as in the loop's own.

    Raises:
        HookError: If it has other keys or another number of things, as where a model leaves out what it does not need.
    """
    if isinstance(result, Tensor) and call.form is True:
        return result
    form = form_of(result)
    if form != call.form and not _found_before(call, form, result, nodes):
        name = name_of(call) if isinstance(call, Operation) else type(getattr(call, "module", call)).__name__
        wrong = (
            about_losses.other_form_in_eval if evaluation and isinstance(call, ModuleCall) else about_losses.other_form
        )
        raise wrong(name, _shown(call.form), _shown(form))
    return result


def _found_before(call: Call, form: Any, result: Any, nodes: Sequence[Node]) -> bool:
    """Return whether all that is taken of a result lies before what is of another form (a list of detections, say)."""
    last = max((node.index for node in nodes if isinstance(node, Output) and node.call is call), default=-1)
    known = alike_before(form, form)[0] == len(contents_of(result))  # each thing has a place in the form
    return known and last < alike_before(call.form, form)[0]


def _shown(form: Any) -> str:
    if not isinstance(form, list):
        return "a tensor" if form else "no tensor"
    filled = [entry[0] for entry in form if isinstance(entry, tuple) and entry[1]]
    return f"something under {filled}" if filled else f"a sequence of {len(form)}"


def _called(call: ModuleCall, args: Any, kwargs: Any, inside: Inside, *, evaluation: bool) -> Any:
    """Call a module again with the attributes it had: the loop may have set others on it since."""
    call.attributes.restore()
    call.before.put()
    call.random.restore()
    mode = evaluation_mode([call.module]) if evaluation else nullcontext()
    with mode, call.autocast.context(), requiring_gradients(call.parameters, call.trainable), inside(call):
        result = without_ddp(call.module)(*args, **kwargs)
    return [result, args, kwargs] if call.fills else result
