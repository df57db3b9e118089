"""Computing the loop's objective again with other inputs, leaving no trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from guard_plugins.curvature.messages import about_losses
from guard_plugins.curvature.record.backward_call import BackwardCall
from guard_plugins.curvature.record.functions import STATISTICS
from guard_plugins.curvature.record.graph import (
    Call,
    ModuleCall,
    Node,
    Operation,
    Output,
    Source,
    Unrepeatable,
    WrittenInto,
)
from guard_plugins.curvature.record.ledger import TensorLedger
from guard_plugins.curvature.record.sources import release
from guard_plugins.curvature.state.leaves import leaves_reached
from guard_plugins.curvature.state.module_state import Attributes, Buffers, Contents
from guard_plugins.curvature.state.pytree import contents_of, map_leaves
from guard_plugins.curvature.state.snapshots import RandomState, evaluation_mode, requiring_gradients
from guard_plugins.curvature.state.wrappers import without_ddp
from guard_plugins.errors import HookError

Inside = Callable[[ModuleCall], AbstractContextManager[Any]]


class Replay:
    """The part of the loop's computation between its inputs and the roots of one backward call.

    Args:
        call: The backward call.
        ledger: The notes of the session.

    Attributes:
        value: The objective as the loop computed it, with the loop's graph.
        nodes: All that was recorded, in the order it happened.
        sources: The inputs x it depends on; empty if the step is not a regularised one.
        regularised: Whether there is anything to replay, or to complain about.
        plain: Unrecorded tensors that take part, the roots among them included.
        fixed: The roots among them.
        attached: Those with a graph of their own (a weight penalty, say).
    """

    def __init__(self, call: BackwardCall, ledger: TensorLedger) -> None:
        self._call, self._ledger = call, ledger
        recipes = [ledger.node(root) for root in call.roots]
        self._recipes = {id(root): node for root, node in zip(call.roots, recipes, strict=True) if node is not None}
        self._fixed = {id(root): root for root in call.roots if id(root) not in self._recipes}
        self.nodes = ancestry(list(self._recipes.values()))
        found = [node for node in self.nodes if isinstance(node, Source)]
        self.sources = [node for node in found if node.watched] or found
        self._data = [] if self.sources is found else [node for node in found if not node.watched]
        self.calls = [node for node in self.nodes if isinstance(node, ModuleCall)]
        self.plain = [t for node in self.nodes if isinstance(node, Call) for t in node.plain]
        self.fixed = list(self._fixed.values())
        self.plain += self.fixed
        self.attached = [t for t in self.plain if t.grad_fn is not None]
        self.regularised = bool(self.sources) or any(isinstance(node, Unrepeatable) for node in self.nodes)
        self.value = call.objective(call.roots) if self.regularised else call.roots[0]

    @property
    def seen(self) -> bool:
        """Whether any root of the call was computed from a recorded tensor."""
        return bool(self._recipes)

    @property
    def watched(self) -> bool:
        """Whether the loop said what x is, so that everything was recorded whether or not the step is due."""
        return any(source.watched for source in self.sources)

    def modules(self) -> list[nn.Module]:
        """Return the recorded modules."""
        return list({id(call.module): call.module for call in self.calls}.values())

    def beside(self) -> list[Tensor]:
        """Return the tensors that take part beside recorded modules, those behind the graphs of plain ones too."""
        return [*self.plain, *(leaves_reached(self.attached)[0] if self.attached else [])]

    def weights(self) -> list[Tensor]:
        """Return the weights among them."""
        return [t for t in self.beside() if isinstance(t, nn.Parameter)]

    def leaves(self) -> list[Tensor]:
        """Return the loop's own inputs, in the order of ``sources``."""
        return [source.leaf for source in self.sources]

    def fresh(self) -> list[Tensor]:
        """Return new leaves with the numbers of the loop's inputs."""
        return [source.leaf.detach().requires_grad_() for source in self.sources]

    def reached_unseen(self) -> Tensor | None:
        """Return an unrecorded tensor that leads back to a recorded input through its own graph, or None."""
        for tensor in self.attached:
            reached, marked = leaves_reached([tensor])
            if marked or any(isinstance(self._ledger.node(leaf), Source) for leaf in reached):
                return tensor
        return None

    def run(
        self,
        inputs: Sequence[Tensor],
        keep: Preserved,
        *,
        evaluation: bool = False,
        inside: Inside = lambda call: nullcontext(),
    ) -> Tensor:
        """Return the objective at ``inputs``, one per source.

        Args:
            inputs: What stands in for each x.
            keep: The states to put back afterwards.
            evaluation: Whether to run every module in eval mode.
            inside: Returns a context to call a module in.

        Raises:
            HookError: If a step fails.
        """
        if evaluation and any(isinstance(node, Operation) and "dropout" in _name(node) for node in self.nodes):
            raise about_losses.dropout_in_loop()
        given = dict(zip(map(id, self.sources), inputs, strict=True))
        given |= {id(node): node.leaf.detach() for node in self._data}
        try:
            with torch.enable_grad():
                made = _execute(self.nodes, given, inside, evaluation=evaluation)
                return self._call.objective([self._root(root, made) for root in self._call.roots])
        except (torch.OutOfMemoryError, HookError):
            raise
        except (RuntimeError, ValueError, IndexError) as error:
            raise about_losses.replay_failed(error) from error
        finally:
            keep.restore()

    def _root(self, root: Tensor, made: Mapping[int, Any]) -> Tensor:
        recipe = self._recipes.get(id(root))
        value: Tensor = self._fixed[id(root)] if recipe is None else made[id(recipe)]
        return value

    def spend(self) -> None:
        """Forget what was recorded: the graph is gone, and a loss the loop keeps would hold the batch."""
        for node in self.nodes:
            if isinstance(node, Call):
                node.spend()
        for source in (*self.sources, *self._data):
            release(source)


def ancestry(roots: Sequence[Node]) -> list[Node]:
    """Return ``roots`` and everything they need, in the order it happened."""
    found: dict[int, Node] = {}
    stack = list(roots)
    while stack:
        node = stack.pop()
        if id(node) not in found:
            found[id(node)] = node
            stack.extend(node.parents)
    return sorted(found.values(), key=lambda node: node.order)


def _name(operation: Operation) -> str:
    return str(getattr(operation.function, "__name__", ""))


class Preserved:
    """The random streams, buffers and attributes as they were when a backward call began."""

    def __init__(self, replay: Replay) -> None:
        devices = {device for call in replay.calls for device, _ in call.random.devices}
        modules = replay.modules()
        self._random = RandomState.save(devices)
        self._buffers = Buffers(modules)
        self._attributes = Attributes(modules, [call.attributes for call in replay.calls])
        self.replaced = self._attributes.replaced
        self._written = Contents(_written(replay))

    def restore(self) -> None:
        """Put everything back, after a replay."""
        self._attributes.restore()
        self._random.restore()
        self.settle()

    def settle(self) -> None:
        """Put buffers back, after the gradients were delivered.

        What hooks of the loop's own backward pass set on modules, and draw, is the loop's business and stays.
        """
        self._buffers.restore()
        self._written.restore()


def _written(replay: Replay) -> list[Tensor]:
    """Return the tensors outside buffers that the loop's computation wrote, and a replay will: sums, statistics."""
    found = {id(tensor): tensor for call in replay.calls for tensor in call.attributes.written()}
    for node in replay.nodes:
        if isinstance(node, Operation) and _name(node) in STATISTICS:
            found |= {id(t): t for t in node.plain if not isinstance(t, nn.Parameter)}
    return list(found.values())


def _execute(nodes: Sequence[Node], made: dict[int, Any], inside: Inside, *, evaluation: bool) -> dict[int, Any]:
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


@contextmanager
def differentiating() -> Iterator[None]:
    """Turn PyTorch's complaint about an input gradient into one of the hook's."""
    try:
        yield
    except (torch.OutOfMemoryError, HookError):
        raise
    except RuntimeError as error:
        raise about_losses.gradient_failed(error) from error
