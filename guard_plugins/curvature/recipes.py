"""How each tensor of the loop was made, noted so that it can be made again from other inputs."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from torch import Tensor, nn

from guard_plugins.curvature.states import Autocast, RandomState
from guard_plugins.curvature.structures import Atom

_MOMENTS: Final = itertools.count()


def now() -> int:
    """Return the next moment; a later call returns a larger number."""
    return next(_MOMENTS)


@dataclass(eq=False, slots=True)
class Node(Atom):
    """One recorded step; ``order`` is the moment it happened, which is also the order of replay."""

    order: int

    @property
    def parents(self) -> Sequence[Node]:
        """The nodes this one needs."""
        return ()


@dataclass(eq=False, slots=True, weakref_slot=True)
class Source(Node):
    """A batch x as a model received it; ``leaf`` shares its numbers and requires a gradient.

    A tensor given to several calls is one source: ``origin`` and ``version`` tell whether it still is the same.
    """

    leaf: Tensor
    origin: weakref.ref[Tensor]
    version: int
    module: nn.Module


@dataclass(eq=False, slots=True)
class Call(Node):
    """A call to be made again; nodes stand where recorded tensors stood.

    Attributes:
        args: Positional arguments.
        kwargs: Keyword arguments.
        needs: The nodes among the arguments.
        attached: Unrecorded tensors among the arguments that have a graph of their own.
        autocast: The settings in force.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    needs: list[Node]
    attached: list[Tensor]
    autocast: Autocast

    @property
    def parents(self) -> Sequence[Node]:
        """The nodes among the arguments."""
        return self.needs


@dataclass(eq=False, slots=True)
class Operation(Call):
    """A call of a PyTorch function; ``random`` is the state of the streams if the function draws from them."""

    function: Callable[..., Any]
    random: RandomState | None


@dataclass(eq=False, slots=True)
class ModuleCall(Call):
    """A call of a module with parameters or buffers, replayed as a whole."""

    module: nn.Module
    random: RandomState
    training: bool
    parameters: list[nn.Parameter]


@dataclass(eq=False, slots=True)
class Output(Node):
    """The ``index``-th leaf of what ``call`` returned."""

    call: Node
    index: int

    @property
    def parents(self) -> Sequence[Node]:
        """The call."""
        return (self.call,)


@dataclass(eq=False, slots=True)
class Written(Node):
    """A tensor after ``call`` wrote into it."""

    call: Node
    target: Node

    @property
    def parents(self) -> Sequence[Node]:
        """The call and the tensor it wrote into."""
        return (self.call, self.target)


@dataclass(eq=False, slots=True)
class Broken(Node):
    """A tensor that cannot be made again, and why."""

    why: str


@dataclass(eq=False, slots=True)
class Lean(Node):
    """A tensor of a step that is not regularised: nothing is kept but the fact that the model was reached."""


def ancestry(roots: list[Node]) -> list[Node]:
    """Return ``roots`` and everything they need, in the order it happened."""
    found: dict[int, Node] = {}
    stack = list(roots)
    while stack:
        node = stack.pop()
        if id(node) not in found:
            found[id(node)] = node
            stack.extend(node.parents)
    return sorted(found.values(), key=lambda node: node.order)
