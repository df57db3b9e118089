"""How each tensor of the loop was made, noted so that it can be made again from other inputs."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from torch import Tensor, nn

from guard_plugins.curvature.state.module_state import Attributes, Before
from guard_plugins.curvature.state.pytree import Atom
from guard_plugins.curvature.state.snapshots import Autocast, RandomState

_MOMENTS: Final = itertools.count()

SPENT: Final = "a part of it was differentiated before, without retain_graph=True"


def now() -> int:
    """Return the next moment; a later call returns a larger number."""
    return next(_MOMENTS)


@dataclass(eq=False, slots=True, weakref_slot=True)
class Node(Atom):
    """One recorded step; ``order`` is the moment it happened, which is also the order of replay."""

    order: int

    @property
    def parents(self) -> Sequence[Node]:
        """The nodes this one needs."""
        return ()


class Token:
    """Stands for one tensor of the loop in the lineage of others.

    Attributes:
        tensor: The tensor, while it lives.
        source: The recorded input it became, while its record lives.
        shape: Its shape.
        step: Backward calls answered before it was noted.
        constant: Whether it was made without data: drawn, filled with a number, or from labels.
    """

    __slots__ = ("constant", "shape", "source", "step", "tensor")

    def __init__(self, tensor: Tensor, step: int = 0) -> None:
        self.tensor, self.shape, self.step = weakref.ref(tensor), tensor.shape, step
        self.source: weakref.ref[Source] | None = None
        self.constant = False

    def alive(self) -> bool:
        """Return whether the tensor, or a record that started from it, can still take part."""
        return self.tensor() is not None or (self.source is not None and self.source() is not None)


@dataclass(eq=False, slots=True)
class Source(Node):
    """A batch x as the loop watched it or a model received it.

    Attributes:
        leaf: Shares the numbers of x and requires a gradient.
        token: Stands for the loop's own tensor.
        version: The tensor's version counter then.
        lineage: What the loop's tensor was computed from.
        name: How messages call it.
        watched: Whether the loop said that it is x.
        rows: Whether dimension 0 counts samples; otherwise the whole tensor is one sample.
        group: Inputs of one group share one z.
        features: Name of the frozen module it comes from, if any.
        base: What the loop's tensor is a view of, itself if of none; its views share numbers with ``leaf``.
        cut: The recorded steps that it was computed from before it was detached.
        users: The calls that received it.
        mark: Keeps the mark on the end of its graph until a call received it.
    """

    leaf: Tensor
    token: Token
    version: int
    lineage: frozenset[Token]
    name: str
    watched: bool = False
    rows: bool = True
    group: int | None = None
    features: str = ""
    base: weakref.ref[Tensor] | None = None
    cut: frozenset[weakref.ref[Node]] = frozenset()
    users: weakref.WeakSet[Call] = field(default_factory=weakref.WeakSet)
    mark: Any = None


@dataclass(eq=False, slots=True)
class Watched(Node):
    """The note on a tensor the loop watches; it must not hold the tensor, which the loop owns.

    Attributes:
        token: Stands for the loop's original tensor.
        version, lineage: The original's version counter then, and what it was computed from.
        name, rows, group: As in ``Source``.
        base: What the original is a view of, itself if of none.
    """

    token: Token
    version: int
    lineage: frozenset[Token]
    name: str
    rows: bool
    group: int | None
    base: weakref.ref[Tensor]

    def source(self, leaf: Tensor) -> Source:
        """Return the recorded input; it lives as long as a call that received it."""
        alive = None if self.token.source is None else self.token.source()
        if alive is not None and alive.leaf is leaf:
            return alive
        made = Source(
            self.order, leaf, self.token, self.version, self.lineage, self.name,
            watched=True, rows=self.rows, group=self.group, base=self.base,
        )  # fmt: skip
        self.token.source = weakref.ref(made)
        return made


@dataclass(eq=False, slots=True)
class Call(Node):
    """A call to be made again; nodes stand where recorded tensors stood.

    Attributes:
        args, kwargs: Its arguments.
        needs: The nodes among the arguments.
        plain: The unrecorded tensors among the arguments, and those the loop set on the module.
        autocast: The settings in force.
        stamps: Version counters of the former after the call.
        form: Of its result, where that is no tensor: results are found again by their places in it.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    needs: list[Node]
    plain: list[Tensor]
    autocast: Autocast
    stamps: list[int] = field(default_factory=list, kw_only=True)
    form: Any = field(default=True, kw_only=True)

    @property
    def parents(self) -> Sequence[Node]:
        """The nodes among the arguments."""
        return self.needs

    @property
    def spent(self) -> Unrepeatable | None:
        """What stands in place of the arguments once they were forgotten."""
        first = self.needs[0] if self.needs else None
        return first if isinstance(first, Unrepeatable) and first.why == SPENT else None

    def spend(self, of: frozenset[Token]) -> None:
        """Forget the arguments, after a backward pass that freed the graph of a loss of the inputs ``of``."""
        for node in self.needs:
            if isinstance(node, Source):
                node.users.discard(self)
        self.args, self.kwargs, self.plain, self.stamps = (), {}, [], []
        self.needs = [Unrepeatable(self.order, SPENT, of)]


@dataclass(eq=False, slots=True)
class Operation(Call):
    """A call of a PyTorch function; ``random`` is the state of the streams if it draws from them."""

    function: Callable[..., Any]
    random: RandomState | None


@dataclass(eq=False, slots=True)
class ModuleCall(Call):
    """A call of a module with parameters or buffers, replayed as a whole.

    Attributes:
        module: The module.
        random, training: The random streams before the call, and its training flag.
        parameters: Its parameters.
        versions, trainable: Their version counters and their ``requires_grad`` flags.
        attributes, before: Its plain attributes and its buffers before the call.
        fills: Whether it writes into containers it is given, whose contents are results as well.
    """

    module: nn.Module
    random: RandomState
    training: bool
    parameters: list[nn.Parameter]
    versions: list[int]
    trainable: list[bool]
    attributes: Attributes
    before: Before
    fills: bool = field(default=False, kw_only=True)

    def spend(self, of: frozenset[Token]) -> None:
        """Forget arguments, attributes and buffers, after a backward pass that freed the graph."""
        Call.spend(self, of)
        self.attributes, self.before = Attributes([]), Before([])


@dataclass(eq=False, slots=True)
class Output(Node):
    """The ``index``-th thing in what ``call`` returned."""

    call: Node
    index: int

    @property
    def parents(self) -> Sequence[Node]:
        """The call."""
        return (self.call,)


@dataclass(eq=False, slots=True)
class WrittenInto(Node):
    """A tensor after ``call`` wrote into it."""

    call: Node
    target: Node

    @property
    def parents(self) -> Sequence[Node]:
        """The call and the tensor it wrote into."""
        return (self.call, self.target)


@dataclass(eq=False, slots=True)
class Unrepeatable(Node):
    """A tensor that cannot be made again, and why; ``of`` are the inputs of a loss whose record was forgotten."""

    why: str
    of: frozenset[Token] = frozenset()


@dataclass(eq=False, slots=True)
class Kept(Unrepeatable):
    """A buffer that a module computed from its input, and where it keeps it; no loss of the loop may be made of it."""


@dataclass(eq=False, slots=True)
class Lean(Node):
    """A tensor of a step that is not regularised: nothing is kept but the fact that the model was reached."""
