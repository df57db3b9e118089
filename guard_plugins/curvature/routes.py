"""Finding second routes: tensors beside the recorded ones that depend on x, or might be x."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from guard_plugins.curvature import input_messages, messages
from guard_plugins.curvature.graph import ModuleCall, Source
from guard_plugins.curvature.ledger import TensorLedger, base_of, is_data
from guard_plugins.curvature.replay import Replay


def reject_second_routes(replay: Replay, ledger: TensorLedger, *, said: bool) -> None:
    """Raise where data reach the loss beside the recorded inputs.

    Args:
        replay: The computation behind a backward call.
        ledger: The notes of the session.
        said: Whether the user named the model or the argument that is x.

    Raises:
        HookError: If a plain tensor is x, was computed from it, or is fresh data in a trainable module.
    """
    for a, b in itertools.permutations(replay.sources, 2):
        if a.token in b.lineage:
            raise input_messages.derived(b.name, a.name)
    for a, b in itertools.combinations(replay.sources, 2):
        if a.base is not None and b.base is not None and a.base() is b.base() and _overlap(a.leaf, b.leaf):
            raise input_messages.alias(b.name, a.name)
    for tensor in replay.plain:
        for source in replay.sources:
            _reject_dependent(tensor, source, ledger)
    if replay.reached_unseen():
        raise messages.untracked_part()
    if not said and not any(source.watched for source in replay.sources):
        for call in replay.calls:
            _reject_fresh(call, ledger)


def _reject_dependent(tensor: Tensor, source: Source, ledger: TensorLedger) -> None:
    known = ledger.get(tensor)
    shown = f"a tensor of shape {tuple(tensor.shape)}"
    view = source.base is not None and source.base() is base_of(tensor)
    if view and _overlap(tensor, source.leaf):
        raise input_messages.alias(shown, source.name)
    if known is not None and known.token is source.token:
        raise input_messages.alias(shown, source.name)
    if known is not None and source.token in known.ancestors:
        raise input_messages.derived(shown, source.name)


def _reject_fresh(call: ModuleCall, ledger: TensorLedger) -> None:
    if not any(call.trainable):
        return
    weights = {id(p) for p in call.parameters}
    for tensor in call.plain:
        if id(tensor) in weights or not is_data(tensor):
            continue
        known = ledger.get(tensor)
        made_of_weights = tensor.requires_grad and (known is None or not known.ancestors)
        if not made_of_weights:
            shown = f"a tensor of shape {tuple(tensor.shape)}"
            raise input_messages.fresh_beside(type(call.module).__name__, shown)


def _overlap(a: Tensor, b: Tensor) -> bool:
    """Return whether two tensors over the same memory share an element."""
    if a.layout != torch.strided or not (a.numel() and b.numel()):
        return False
    if a.untyped_storage().data_ptr() != b.untyped_storage().data_ptr():
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
