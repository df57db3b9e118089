"""Computing the loop's objective again with other inputs, leaving no trace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from guard_plugins.curvature import messages
from guard_plugins.curvature.operations import recipes_of
from guard_plugins.curvature.recipes import (
    Broken,
    Call,
    ModuleCall,
    Node,
    Operation,
    Output,
    Source,
    Written,
    ancestry,
)
from guard_plugins.curvature.roots import BackwardCall
from guard_plugins.curvature.states import Buffers, RandomState, evaluation_mode
from guard_plugins.curvature.structures import leaves_of, map_leaves
from guard_plugins.curvature.traced import Traced, strip
from guard_plugins.curvature.wrappers import without_ddp
from guard_plugins.errors import HookError


class Replay:
    """The part of the loop's computation between its inputs and the roots of one backward call.

    Args:
        call: The backward call.

    Attributes:
        value: The objective as the loop computed it, with the loop's graph.
        sources: The inputs x it depends on; empty if the step is not a regularised one.
        regularised: Whether there is anything to replay, or to complain about.
        attached: Tensors with a graph of their own (a weight penalty, say) that take part unreplayed.

    Raises:
        HookError: If the objective cannot be replayed.
    """

    def __init__(self, call: BackwardCall) -> None:
        self._call = call
        traced = [root for root in call.roots if isinstance(root, Traced)]
        with torch._C.DisableTorchFunctionSubclass():
            self._recipes = recipes_of(traced)
            self._fixed = {id(root): root for root in call.roots if id(root) not in self._recipes}
        self._nodes = ancestry(list(self._recipes.values()))
        self.sources = [node for node in self._nodes if isinstance(node, Source)]
        self.calls = [node for node in self._nodes if isinstance(node, ModuleCall)]
        self.value = call.objective([strip(root) for root in call.roots])
        self.attached = [t for node in self._nodes if isinstance(node, Call) for t in node.attached]
        self.attached += [root for root in self._fixed.values() if root.grad_fn is not None]
        self.regularised = bool(self.sources) or any(isinstance(node, Broken) for node in self._nodes)

    def reject_unreplayable(self) -> None:
        """Raise where the replay could not be faithful.

        Raises:
            HookError: If a tensor on the way was made unseen, a module changed its mode or its weights.
        """
        for node in self._nodes:
            if isinstance(node, Broken):
                raise messages.broken(node.why)
        for call in self.calls:
            name = type(call.module).__name__
            if call.module.training != call.training:
                raise messages.mode_changed(name, call.training)
            now = list(call.module.parameters())
            if len(now) != len(call.parameters) or any(a is not b for a, b in zip(now, call.parameters, strict=True)):
                raise messages.foreign_weights(name)

    def signature(self) -> tuple[Any, ...]:
        """Return what the computation consists of, for telling a new kind of loss from one seen before."""
        names = [
            getattr(node.function, "__name__", "") if isinstance(node, Operation) else type(node).__name__
            for node in self._nodes
        ]
        return (*names, len(self.attached))

    def modules(self) -> list[nn.Module]:
        """Return the recorded modules."""
        return list({id(call.module): call.module for call in self.calls}.values())

    def leaves(self) -> list[Tensor]:
        """Return the loop's own inputs, in the order of ``sources``."""
        return [source.leaf for source in self.sources]

    def fresh(self) -> list[Tensor]:
        """Return new leaves with the numbers of the loop's inputs."""
        return [source.leaf.detach().requires_grad_() for source in self.sources]

    def run(self, inputs: Sequence[Tensor], keep: Preserved, *, evaluation: bool = False) -> Tensor:
        """Return the objective at ``inputs``, one per source.

        Args:
            inputs: What stands in for each x.
            keep: The states to put back afterwards.
            evaluation: Whether to run every module in eval mode.

        Raises:
            HookError: If a step fails.
        """
        mode = evaluation_mode(self.modules()) if evaluation else nullcontext()
        try:
            with torch.enable_grad(), mode:
                made = _execute(self._nodes, dict(zip(map(id, self.sources), inputs, strict=True)))
                return self._call.objective([self._root(root, made) for root in self._call.roots])
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise messages.replay_failed(error) from error
        finally:
            keep.restore()

    def _root(self, root: Tensor, made: Mapping[int, Any]) -> Tensor:
        recipe = self._recipes.get(id(root))
        value: Tensor = self._fixed[id(root)] if recipe is None else made[id(recipe)]
        return value


class Preserved:
    """The random streams and buffers as they were when a backward call began."""

    def __init__(self, replay: Replay) -> None:
        devices = {device for call in replay.calls for device, _ in call.random.devices}
        self._random = RandomState.save(devices)
        self._buffers = Buffers(replay.modules())

    def restore(self) -> None:
        """Put both back."""
        self._random.restore()
        self._buffers.restore()


def _execute(nodes: Sequence[Node], made: dict[int, Any]) -> dict[int, Any]:
    def filled(leaf: Any) -> Any:
        return made[id(leaf)] if isinstance(leaf, Node) else leaf

    for node in nodes:
        match node:
            case Operation():
                if node.random is not None:
                    node.random.restore()
                args, kwargs = map_leaves(filled, (node.args, node.kwargs))
                with node.autocast.context():
                    made[id(node)] = node.function(*args, **kwargs)
            case ModuleCall():
                node.random.restore()
                args, kwargs = map_leaves(filled, (node.args, node.kwargs))
                with node.autocast.context():
                    made[id(node)] = without_ddp(node.module)(*args, **kwargs)
            case Output():
                made[id(node)] = leaves_of(made[id(node.call)])[node.index]
            case Written():
                made[id(node)] = made[id(node.target)]
    return made


@contextmanager
def differentiating() -> Iterator[None]:
    """Turn PyTorch's complaint about an input gradient into one of the hook's."""
    try:
        yield
    except (torch.OutOfMemoryError, HookError):
        raise
    except RuntimeError as error:
        raise messages.gradient_failed(error) from error
