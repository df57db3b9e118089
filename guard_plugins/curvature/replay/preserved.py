"""What a backward call puts back after its replays."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from guard_plugins.curvature.record.functions import STATISTICS
from guard_plugins.curvature.record.graph import ModuleCall, Node, Operation
from guard_plugins.curvature.replay.execution import name_of
from guard_plugins.curvature.state.module_state import Attributes, Buffers
from guard_plugins.curvature.state.snapshots import Contents, RandomState


class Preserved:
    """The random streams, buffers and attributes as they were when a backward call began.

    Args:
        nodes: What the replays make again.
    """

    def __init__(self, nodes: Sequence[Node]) -> None:
        calls = [node for node in nodes if isinstance(node, ModuleCall)]
        devices = {device for call in calls for device, _ in call.random.devices}
        modules = list({id(call.module): call.module for call in calls}.values())
        self._random = RandomState.save(devices)
        self._buffers = Buffers(modules)
        self._attributes = Attributes(modules, [call.attributes for call in calls])
        self.replaced = self._attributes.replaced
        self._written = Contents(_written(nodes))

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


def _written(nodes: Sequence[Node]) -> list[Tensor]:
    """Return the tensors outside buffers that the loop's computation wrote, and a replay will: sums, statistics."""
    calls = [node for node in nodes if isinstance(node, ModuleCall)]
    found = {id(tensor): tensor for call in calls for tensor in call.attributes.written()}
    for node in nodes:
        if isinstance(node, Operation) and name_of(node) in STATISTICS:
            found |= {id(t): t for t in node.plain if not isinstance(t, nn.Parameter)}
    return list(found.values())
