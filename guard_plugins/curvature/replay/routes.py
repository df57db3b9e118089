"""Finding second routes: tensors beside the recorded ones that depend on x, or might be x."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from guard_plugins.curvature.messages import about_inputs, about_losses
from guard_plugins.curvature.record.functions import LOSSES
from guard_plugins.curvature.record.graph import Call, ModuleCall, Operation, Source, Token, Unrepeatable
from guard_plugins.curvature.record.known import Known, is_data
from guard_plugins.curvature.record.ledger import TensorLedger
from guard_plugins.curvature.record.wrapped import base_of
from guard_plugins.curvature.replay.replay import Replay, ancestry
from guard_plugins.curvature.state.pytree import tensors_of


def reject_second_routes(replay: Replay, ledger: TensorLedger, *, said: bool) -> None:
    """Raise where data reach the loss beside the recorded inputs.

    Args:
        replay: The computation behind a backward call.
        ledger: The notes of the session.
        said: Whether the user named the model or the argument that is x.

    Raises:
        HookError: If a plain tensor is x, was computed from it, or is fresh data in a trainable module.
    """
    for a, b in itertools.combinations(replay.sources, 2):
        _reject_related_inputs(a, b, said=said)
    if len(replay.sources) > 1:
        _reject_detached_inputs(replay)
    for tensor, target in _plain(replay):
        for source in replay.sources:
            _reject_dependent(tensor, source, ledger, target=target)
    unseen = replay.reached_unseen()
    if unseen is not None:
        raise about_losses.untracked_part(f"a tensor of shape {tuple(unseen.shape)}", _keeper(unseen, replay.modules()))
    if not said and not any(source.watched for source in replay.sources):
        for call in replay.calls:
            _reject_fresh(call, ledger)


def _plain(replay: Replay) -> Iterator[tuple[Tensor, bool]]:
    """Yield the unrecorded tensors that take part, each with whether it is compared with an answer by a loss."""
    for node in replay.nodes:
        if isinstance(node, Call) and node.plain:
            target = isinstance(node, Operation) and getattr(node.function, "__name__", "") in LOSSES
            yield from ((tensor, target) for tensor in node.plain)
    yield from ((tensor, False) for tensor in replay.fixed)


def _reject_related_inputs(a: Source, b: Source, *, said: bool) -> None:
    """Raise where nobody said that two inputs made from one are to move apart."""
    if (a.watched and b.watched) or (said and a.name == b.name):
        return
    for first, second in ((a, b), (b, a)):
        if first.token in second.lineage:
            raise about_inputs.derived(second.name, first.name)
    if _one_memory(a.leaf, b.leaf):  # otherwise disjoint parts of one batch, or x and x.detach()
        if a.base is not None and b.base is not None and a.base() is b.base() and _overlap(a.leaf, b.leaf):
            raise about_inputs.alias(b.name, a.name)
    elif _from_one(a.lineage, b.lineage, a.leaf):
        raise about_inputs.made_from_one(b.name, a.name)


def _reject_detached_inputs(replay: Replay) -> None:
    """Raise where an input that nobody watches was computed from another one of the loss, and then detached."""
    own = {source.token: source for source in replay.sources}
    for source in replay.sources:
        cut = () if source.watched else filter(None, (ref() for ref in source.cut))
        for node in ancestry(list(cut)):
            tokens = {node.token} if isinstance(node, Source) else node.of if isinstance(node, Unrepeatable) else set()
            if (found := next((own[token] for token in tokens if token in own), source)) is not source:
                raise about_inputs.detached_input(source.name, "a model", found.name)


def _reject_dependent(tensor: Tensor, source: Source, ledger: TensorLedger, *, target: bool) -> None:
    unseen = ledger.is_unseen(tensor)
    known = ledger.get(tensor)
    shown = f"a tensor of shape {tuple(tensor.shape)}"
    view = source.base is not None and source.base() is base_of(tensor)
    if view and _overlap(tensor, source.leaf):
        raise about_inputs.alias(shown, source.name)
    if known is None:
        return
    unseen = unseen and _of_source(frozenset(ledger.in_gradients), source)
    if unseen or (known.transformed and source.token in known.ancestors):
        raise about_inputs.transformed(shown, source.name)
    if known.token is source.token:
        raise about_inputs.alias(shown, source.name)
    if source.token in known.ancestors:
        raise about_inputs.derived(shown, source.name)
    # a watched x was chosen with what it was made from at hand; a target stays where it is
    if not (target or view or source.watched) and _from_one(
        known.ancestors | {known.token}, source.lineage, source.leaf
    ):
        raise about_inputs.made_from_one(shown, source.name)


def is_dependent(known: Known, source: Source) -> bool:
    """Return whether a tensor is x, was computed from it, or from the data that x was made from."""
    return _of_source(known.ancestors | {known.token}, source)


def _of_source(tokens: frozenset[Token], source: Source) -> bool:
    return source.token in tokens or (not source.watched and _from_one(tokens, source.lineage, source.leaf))


def _from_one(a: frozenset[Token], b: frozenset[Token], x: Tensor) -> bool:
    """Return whether two lineages have a batch in common, with as many samples as ``x``."""
    return any(_may_be_batch(token, x) for token in a & b)


def _may_be_batch(token: Token, x: Tensor) -> bool:
    rows = len(x)
    single = x.numel() == rows
    return not token.constant and token.shape[:1] == (rows,) and (single or token.shape.numel() > rows)


def _reject_fresh(call: ModuleCall, ledger: TensorLedger) -> None:
    if not any(call.trainable):
        return
    weights = {id(p) for p in call.parameters}
    received = {id(t) for t in tensors_of((call.args, call.kwargs))}  # what the loop set on the module is no x
    for tensor in call.plain:
        if id(tensor) in weights or id(tensor) not in received or not is_data(tensor):
            continue
        known = ledger.get(tensor)
        made_of_weights = tensor.requires_grad and (known is None or not known.ancestors)
        if not made_of_weights and not (known is not None and known.token.constant):
            shown = f"a tensor of shape {tuple(tensor.shape)}"
            raise about_inputs.fresh_beside(type(call.module).__name__, shown)


def _keeper(tensor: Tensor, modules: Iterable[nn.Module]) -> str:
    """Return the attribute of a module that ``tensor`` was computed from, as ``Net.aux``, or an empty string."""
    graph, stack = set(), [tensor.grad_fn]
    while stack:
        node = stack.pop()
        if node is not None and node not in graph:
            graph.add(node)
            stack.extend(parent for parent, _ in node.next_functions)
    parts = (part for module in modules for part in module.modules())
    kept = ((part, name, value) for part in parts for name, value in part.__dict__.items() if isinstance(value, Tensor))
    return next((f"{type(p).__name__}.{name}" for p, name, value in kept if value.grad_fn in graph), "")


def _one_memory(a: Tensor, b: Tensor) -> bool:
    dense = a.layout == b.layout == torch.strided
    return dense and a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()


def _overlap(a: Tensor, b: Tensor) -> bool:
    """Return whether two tensors over the same memory share an element."""
    if not (a.numel() and b.numel() and _one_memory(a, b)):
        return False
    first = min(a.storage_offset(), b.storage_offset())
    size = max(_end(a), _end(b)) - first
    touched = torch.zeros(size, dtype=torch.bool)
    touched.as_strided(a.shape, a.stride(), a.storage_offset() - first).fill_(True)
    return bool(touched.as_strided(b.shape, b.stride(), b.storage_offset() - first).any())


def _end(tensor: Tensor) -> int:
    return (
        int(tensor.storage_offset()) + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True)) + 1
    )
