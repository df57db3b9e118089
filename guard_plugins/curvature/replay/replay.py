"""Computing the loop's objective again with other inputs, leaving no trace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from guard_plugins.curvature.messages import about_losses
from guard_plugins.curvature.record.backward_call import BackwardCall
from guard_plugins.curvature.record.graph import Call, ModuleCall, Node, Operation, Source, Unrepeatable
from guard_plugins.curvature.record.ledger import TensorLedger
from guard_plugins.curvature.record.sources import release
from guard_plugins.curvature.replay.execution import Inside, execute, name_of
from guard_plugins.curvature.replay.preserved import Preserved
from guard_plugins.curvature.state.leaves import leaves_reached
from guard_plugins.errors import HookError


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
        if evaluation and any(isinstance(node, Operation) and "dropout" in name_of(node) for node in self.nodes):
            raise about_losses.dropout_in_loop()
        given = dict(zip(map(id, self.sources), inputs, strict=True))
        given |= {id(node): node.leaf.detach() for node in self._data}
        try:
            with torch.enable_grad():
                made = execute(self.nodes, given, inside, evaluation=evaluation)
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
        of = frozenset(source.token for source in (*self.sources, *self._data))
        for node in self.nodes:
            if isinstance(node, ModuleCall):
                node.attributes.drop_graphs(self._ledger.is_input)
            if isinstance(node, Call):
                node.spend(of)
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


@contextmanager
def differentiating() -> Iterator[None]:
    """Turn PyTorch's complaint about an input gradient into one of the hook's."""
    try:
        yield
    except (torch.OutOfMemoryError, HookError):
        raise
    except RuntimeError as error:
        raise about_losses.gradient_failed(error) from error
