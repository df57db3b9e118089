"""What is known of the loop's tensors, by identity: how they were made again, or what they were computed from.

The loop keeps its own plain tensors; the knowledge lives beside them and goes when they do.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

from guard_plugins.curvature.record.arguments import inputs_behind, spent_behind
from guard_plugins.curvature.record.graph import SPENT, Lean, Node, Token, Unrepeatable, Watched, now
from guard_plugins.curvature.record.known import Known, is_data, version_of
from guard_plugins.curvature.record.wrapped import bare, base_of, in_gradient_transform

_VIEW_WRITE: Final = "a tensor on the way to the loss was written through a view of it, or without gradients"
_LABELS: Final = frozenset({torch.int64, torch.bool})
_MANY: Final = 32  # tokens of one tensor, from which on only those that live are kept


class TensorLedger:
    """The knowledge of one session.

    Attributes:
        data_written: Whether the loop ever wrote through ``.data``.
        looked_into: Whether the loop took a node of a recorded graph, on which it may set hooks that nobody sees.
        step: Backward calls answered so far.
        in_gradients: What transforms that give gradients were given lately, and what that was made from; with the step.
    """

    def __init__(self) -> None:
        self._known: dict[int, Known] = {}
        self._marked: set[int] = set()
        self.data_written = self.looked_into = False
        self.step = 0
        self._transforming = self._attached = -2  # the latest steps with a transform, and with one of weights
        self.in_gradients: dict[Token, int] = {}

    def get(self, tensor: Tensor) -> Known | None:
        """Return what is known of ``tensor``, or None."""
        known = self._known.get(id(tensor))
        return known if known is not None and known.ref() is tensor else None

    def of(self, tensor: Tensor) -> Known:
        """Return what is known of ``tensor``; an empty entry is made where nothing is."""
        known = self.get(tensor)
        if known is None:
            key, entries = id(tensor), self._known
            ref = weakref.ref(tensor, lambda _: entries.pop(key, None))
            known = entries[key] = Known(ref, tensor, self.step)
        return known

    def forget(self, tensor: Tensor) -> None:
        """Forget ``tensor``."""
        self._known.pop(id(tensor), None)

    def clear(self) -> None:
        """Forget everything."""
        self._known.clear()

    def node(self, tensor: Tensor) -> Node | None:
        """Return how ``tensor`` was made; a broken node where it was changed unseen; None for a plain tensor."""
        known = self.get(tensor)
        if known is None or known.node is None:
            return None
        if known.stamp != version_of(tensor) and not isinstance(known.node, Unrepeatable):
            known.node = Unrepeatable(now(), _VIEW_WRITE)
        return known.node.source(tensor) if isinstance(known.node, Watched) else known.node

    def mark(self, tensor: Tensor, node: Node) -> None:
        """Note that ``tensor`` was made by ``node``."""
        known = self.of(tensor)
        known.node, known.stamp = node, version_of(tensor)
        if not isinstance(node, (Lean, Unrepeatable)):  # these hold nothing
            self._marked.add(id(tensor))

    def settle(self) -> None:
        """Let go of what was computed beside a loss whose record was forgotten: an accuracy would keep the labels.

        What has no graph is data from then on, for all but another loss of the same x.
        """
        found: dict[int, Unrepeatable | None] = {}
        marked, self._marked = self._marked, set()
        for key, entry in [(key, self._known[key]) for key in marked if key in self._known]:
            gone = None if entry.node is None else spent_behind(entry.node, found)
            tensor = entry.ref()
            if gone is None or tensor is None:
                self._marked.add(key)
            elif gone.why != SPENT or tensor.requires_grad:
                entry.node = gone
            else:
                entry.ancestors, entry.node = entry.ancestors | inputs_behind(entry.node), None

    def is_input(self, leaf: Tensor) -> bool:
        """Return whether ``leaf`` is what a watched tensor became."""
        known = self.get(leaf)
        return known is not None and isinstance(known.node, Watched)

    def sharing(self, tensor: Tensor) -> list[tuple[Tensor, Known]]:
        """Return the recorded tensors that are views of the same tensor as ``tensor``, or what it is a view of."""
        base = base_of(tensor)
        known = [(entry.ref(), entry) for entry in self._known.values() if entry.node is not None]
        return [(t, entry) for t, entry in known if t is not None and t is not tensor and base_of(t) is base]

    def lineage(self, tensors: Iterable[Tensor]) -> frozenset[Token]:
        """Return the tokens of ``tensors`` and of all they were computed from, weights left out.

        Tokens of tensors that are gone are kept for one step, since two tensors made from one may outlive it.
        """
        found: set[Token] = set()
        for tensor in tensors:
            known = self.get(tensor)
            if known is None:
                if not is_data(tensor):
                    continue
                known = self.of(tensor)
            elif isinstance(tensor, nn.Parameter):
                continue
            found.add(known.token)
            found |= known.ancestors
        step = self.step if len(found) < _MANY else -1
        return frozenset(token for token in found if token.step == step or token.alive())

    def note_constants(self, outputs: Iterable[Tensor]) -> None:
        """Note that ``outputs`` were made without data: drawn, filled with a number, or from labels."""
        for output in outputs:
            if is_data(output):
                self.of(output).token.constant = True

    def note_attacked(self, outputs: Iterable[Any]) -> None:
        """Note that a model made ``outputs`` of an input that requires a gradient: a loss of theirs is no batch's."""
        for output in outputs:
            if isinstance(output, Tensor) and output.grad_fn is not None:
                self.of(output).attacked = True

    def note_in_transform(self, inputs: Sequence[Tensor], outputs: Iterable[Tensor]) -> None:
        """Note that a transform of ``torch.func`` computes ``outputs`` with ``inputs``.

        What ``vmap`` gives back is the last of them, or a view of it; what ``grad`` gives back is seen by nobody.
        """
        self._transforming = self.step
        ordinary = [bare(tensor) for tensor in inputs]
        known, given = [self.get(tensor) for tensor in ordinary], {id(tensor) for tensor in ordinary}
        if in_gradient_transform():
            outer = self.lineage(t for t, k in zip(ordinary, known, strict=True) if k is None or not k.transformed)
            self.in_gradients.update(dict.fromkeys(outer, self.step))
            self._attached = self.step if any(tensor.requires_grad for tensor in ordinary) else self._attached
        made = [tensor for tensor in map(bare, outputs) if id(tensor) not in given]
        self.note_derived(made, ordinary, known, cut=False)
        for entry in filter(None, map(self.get, made)):
            entry.transformed = True

    def is_unseen(self, tensor: Tensor) -> bool:
        """Return whether a transform may have given ``tensor``, or what it is made from, and nobody saw it."""
        known = self.get(tensor)
        if known is None and self._transforming >= self.step - 1:
            inner = None if tensor._base is None else self.get(tensor._base)
            if inner is not None and inner.transformed:  # vmap has moved the dimension of the batch
                known = self.of(tensor)
                known.transformed, known.ancestors = True, inner.ancestors | {inner.token}
                known.token.constant = inner.token.constant
            elif tensor.grad_fn is not None and self._attached >= self.step - 1:
                known = self.of(tensor)
                known.unseen = True
        return known is not None and known.unseen

    def next_step(self) -> None:
        """Begin a backward call; what transforms were given before the one that has just ended is forgotten."""
        self.step += 1
        if self.in_gradients:
            self.in_gradients = {token: step for token, step in self.in_gradients.items() if step >= self.step - 1}

    def note_cut(self, outputs: Iterable[Tensor], known: Iterable[Known | None]) -> None:
        """Note that ``outputs`` are data, made of recorded tensors by detaching or without gradients."""
        cut = _cut_from(known)
        for output in outputs if cut else ():
            if is_data(output):
                self.of(output).cut |= cut

    def note_derived(
        self, outputs: list[Tensor], inputs: Sequence[Tensor], known: Sequence[Known | None], *, cut: bool
    ) -> None:
        """Note what plain ``outputs`` were computed from.

        Args:
            outputs: Tensors that are not recorded.
            inputs: What they were computed from.
            known: What is known of those.
            cut: Whether they are data whatever they were computed from, by detaching.
        """
        features = next((entry.features for entry in known if entry is not None and entry.features), "")
        derived = not cut and torch.is_grad_enabled()
        attacked = derived and any(entry is not None and entry.attacked for entry in known)
        unseen = transformed = False
        if derived and self._transforming >= self.step - 1:
            unseen = sum(map(self.is_unseen, inputs)) > 0  # asks for all
            transformed = any(entry is not None and entry.transformed for entry in map(self.get, inputs))
        ancestors = self.lineage(inputs) if derived and outputs else frozenset()
        constant = all(token.constant for token in ancestors) if ancestors else _are_labels(inputs)
        self.note_cut(outputs, known)
        for output in outputs:
            # one with a graph is noted even if it comes from weights alone: the loop may set it on a module
            if ancestors or features or (derived and output.requires_grad):
                entry = self.of(output)
                entry.attacked |= attacked
                entry.transformed |= transformed
                entry.unseen |= unseen
                # zeros that data were written into are no constant any more
                entry.token.constant = constant and (entry.token.constant or not entry.ancestors)
                made_of = entry.ancestors | (_of_samples(output, inputs, ancestors) - {entry.token})
                if len(made_of) >= _MANY:  # a buffer that takes the batch of every step
                    made_of = frozenset(token for token in made_of if token.step == self.step or token.alive())
                entry.ancestors = made_of
                entry.features = entry.features or features
            elif constant and is_data(output):
                self.of(output).token.constant = True


def _cut_from(known: Iterable[Known | None]) -> frozenset[weakref.ref[Node]]:
    """Return the recorded steps behind tensors of which ``known`` is known."""
    found: frozenset[weakref.ref[Node]] = frozenset()
    for entry in known:
        if entry is not None:
            found |= entry.cut if entry.node is None else {weakref.ref(entry.node)}
    return found


def _of_samples(output: Tensor, inputs: Sequence[Tensor], ancestors: frozenset[Token]) -> frozenset[Token]:
    """Return what a choice of samples was made from: not each of several batches that were joined before."""
    rows = output.shape[:1]
    first = inputs[0].shape if inputs else rows
    if not rows or rows >= first[:1] or output.shape[1:] != first[1:]:  # another shape: rows were put together
        return ancestors
    return frozenset(token for token in ancestors if token.shape[:1] != rows)


def _are_labels(tensors: Sequence[Tensor]) -> bool:
    """Return whether ``tensors`` are integers that are no pixels."""
    return bool(tensors) and all(t.dtype in _LABELS for t in tensors)
