"""Refusing what a replay could not do faithfully, before anything is delivered."""

from __future__ import annotations

from torch import Tensor

from guard_plugins.curvature.messages import about_inputs, about_losses, about_models, about_steps
from guard_plugins.curvature.record.graph import Call, Kept, Lean, ModuleCall, Unrepeatable
from guard_plugins.curvature.record.known import version_of
from guard_plugins.curvature.record.ledger import TensorLedger
from guard_plugins.curvature.replay.module_reads import is_closed
from guard_plugins.curvature.replay.replay import Replay
from guard_plugins.curvature.replay.routes import reject_second_routes


def reject_unfaithful(replay: Replay, ledger: TensorLedger, *, said: bool) -> None:
    """Raise where the objective the replay would compute is not the one the loop asks for.

    Args:
        replay: The computation behind a backward call.
        ledger: The notes of the session.
        said: Whether the user named the model or the argument that is x.

    Raises:
        HookError: With what was seen and what to write instead.
    """
    for node in replay.nodes:
        if isinstance(node, Kept):
            raise about_losses.untracked_part("a buffer of a module", node.why)
        if isinstance(node, Unrepeatable):
            raise about_losses.broken(node.why)
    if any(isinstance(node, Lean) for node in replay.nodes):
        raise about_steps.half_due()
    for call in replay.calls:
        _reject_changed_model(call, ledger)
    for node in replay.nodes:
        if isinstance(node, Call):
            _reject_changed_tensors(node, ledger)
    for source in replay.sources:
        if not source.watched and source.leaf._version != source.version:
            raise about_inputs.overwritten(source.name)
    _reject_features(replay)
    reject_second_routes(replay, ledger, said=said)
    if replay.sources:
        _reject_attacked(replay, ledger)


def _reject_features(replay: Replay) -> None:
    """Refuse inputs that a frozen module made: they are no data, and beside data nobody said that they move."""
    data = next((source for source in replay.sources if not source.features), None)
    for source in replay.sources:
        if source.features and data is None:
            raise about_models.head_on_frozen(source.name, source.features)
        if source.features and data is not None:
            raise about_inputs.detached_input(source.name, source.features, data.name)


def changed_attributes(replay: Replay, ledger: TensorLedger) -> list[Tensor]:
    """Return the tensors that modules have as attributes and that the loop wrote between the call and backward.

    A replay must not read them. What a model only holds (a queue for the loop, the state of an optimiser) it may hold.

    Raises:
        HookError: If there are some, and what a module reads cannot be seen.
    """
    advanced = {id(tensor) for call in replay.calls for tensor in call.attributes.written_by_call()}
    found: list[Tensor] = []
    for call in replay.calls:
        written = call.attributes.written_later()
        if ledger.data_written:
            known = [(tensor, ledger.get(tensor)) for tensor in call.attributes.tensors()]
            written += [tensor for tensor, entry in known if entry is not None and entry.written > call.order]
        found += [tensor for tensor in written if id(tensor) not in advanced]
    if found and any(map(is_closed, replay.modules())):
        raise about_losses.written_since(tuple(found[0].shape))
    return found


def _reject_changed_tensors(call: Call, ledger: TensorLedger) -> None:
    for tensor, stamp in zip(call.plain, call.stamps, strict=False):
        known = ledger.get(tensor) if ledger.data_written else None
        if version_of(tensor) != stamp or (known is not None and known.written > call.order):
            raise about_losses.written_since(tuple(tensor.shape))


def _reject_attacked(replay: Replay, ledger: TensorLedger) -> None:
    """Refuse a loss beside the regularised one whose model received an input that requires a gradient."""
    for tensor in replay.attached:
        known = ledger.get(tensor)
        if known is not None and known.attacked:
            raise about_inputs.still_attacked(tuple(tensor.shape))


def _reject_changed_model(call: ModuleCall, ledger: TensorLedger) -> None:
    name = type(call.module).__name__
    if call.module.training != call.training:
        raise about_models.mode_changed(name, call.training)
    present = list(call.module.parameters())
    if len(present) != len(call.parameters) or any(a is not b for a, b in zip(present, call.parameters, strict=True)):
        raise about_models.foreign_weights(name)
    if [p._version for p in present] != call.versions:
        raise about_models.weights_written(name)
    if ledger.data_written:
        known = [ledger.get(p) for p in present]
        if any(entry is not None and entry.written > call.order for entry in known):
            raise about_models.weights_written(name)
