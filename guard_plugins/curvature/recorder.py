"""Recording calls of modules: the outermost trainable one receives x as a leaf, those after it are noted whole."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

from guard_plugins.curvature.messages import about_inputs, about_models
from guard_plugins.curvature.objective.options import Options
from guard_plugins.curvature.record import inputs
from guard_plugins.curvature.record.arguments import linked, register, without_record
from guard_plugins.curvature.record.graph import Kept, Lean, ModuleCall, Node, Source, now
from guard_plugins.curvature.record.known import version_of
from guard_plugins.curvature.record.ledger import TensorLedger
from guard_plugins.curvature.record.listening import Listening
from guard_plugins.curvature.record.sources import Sources
from guard_plugins.curvature.record.tracing import Tracer
from guard_plugins.curvature.replay.module_reads import set_on
from guard_plugins.curvature.state.containers import Filled
from guard_plugins.curvature.state.module_state import Attributes, Before
from guard_plugins.curvature.state.pytree import Copies, contents_of, form_of, leaves_of, replace_leaves, tensors_of
from guard_plugins.curvature.state.snapshots import Autocast, RandomState
from guard_plugins.curvature.state.wrappers import is_opaque, unwrapped

Call = Callable[..., Any]

_PART_OF_THE_LOOP: Final = object()


class Recorder:
    """Turns module calls into recipes.

    Args:
        options: The hook's settings.
        ledger: The notes of the session.
        tracer: Follows the loop's own operations.
        sources: The recorded inputs.
        listening: Hears the loop's operations; not those inside a module.
        due: Tells whether the present step of a model is a regularised one.

    Attributes:
        calls: How many times a model received a recorded x.
        skipped: Why modules were not recorded, by class name.
        depth: Nesting of recorded calls; inner modules of a recorded one are left alone.
    """

    def __init__(
        self,
        options: Options,
        ledger: TensorLedger,
        tracer: Tracer,
        sources: Sources,
        listening: Listening,
        due: Callable[[nn.Module], bool],
    ) -> None:
        self.options, self.due = options, due
        self._ledger, self._tracer, self._sources, self._listening = ledger, tracer, sources, listening
        self.calls = self.depth = 0
        self.skipped: dict[str, str] = {}
        self._chosen = None if options.model is None else unwrapped(options.model)
        self._weights: weakref.WeakKeyDictionary[nn.Module, frozenset[int]] = weakref.WeakKeyDictionary()

    def trains(self, tensor: Any) -> bool:
        """Return whether ``tensor`` is a trainable weight of a recorded module."""
        return any(id(tensor) in weights for weights in self._weights.values())

    def owners(self, tensors: Sequence[Tensor]) -> list[nn.Module]:
        """Return the recorded modules that one of ``tensors`` is a trainable weight of."""
        present = {id(tensor) for tensor in tensors}
        return [module for module, weights in self._weights.items() if not weights.isdisjoint(present)]

    def call(self, original: Call, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call ``module`` as the loop asked, recording the call where it is one of a model."""
        self._listening.start()
        with self._listening.off():
            answer = self._answered(original, module, args, kwargs)
        # a module without weights or buffers is part of the loop: what it calls is listened to
        return original(module, *args, **kwargs) if answer is _PART_OF_THE_LOOP else answer

    def _answered(self, original: Call, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        leaves = leaves_of((args, kwargs))
        nodes = {id(leaf): self._ledger.node(leaf) for leaf in leaves if isinstance(leaf, Tensor)}
        old: dict[int, Tensor] = {}
        if any(node is not None for node in nodes.values()) and torch.is_grad_enabled():
            if not is_opaque(module):
                return _PART_OF_THE_LOOP
            old = inputs.left_in_containers((*args, *kwargs.values()), leaves, nodes, self._ledger)
            if not all(node is None or key in old for key, node in nodes.items()):
                return self._call_after(original, module, args, kwargs, leaves, nodes)
        if self._chosen is not None:
            if unwrapped(module) is not self._chosen and any(part is self._chosen for part in module.modules()):
                return _PART_OF_THE_LOOP
            if unwrapped(module) is not self._chosen or not torch.is_grad_enabled():
                return self._call_plain(original, module, args, kwargs)
        elif not is_opaque(module):
            return _PART_OF_THE_LOOP
        return self._call_first(original, module, args, kwargs, leaves, old)

    def _call_first(
        self, original: Call, module: nn.Module, args: Any, kwargs: Any, leaves: list[Any], old: dict[int, Tensor]
    ) -> Any:
        parameters = list(module.parameters())
        found = self._found(module, parameters, args, kwargs, old)
        if found.reason:
            self.skipped[type(module).__name__] = found.reason
            result = self._call_plain(original, module, args, kwargs)
            if found.reason == about_models.INPUT_GRADIENT:
                self._ledger.note_attacked(contents_of(result))
            return result
        if found.error is not None:
            raise found.error
        inputs.reject_wrappers(module)
        self.calls += 1
        self.note_weights(module, parameters)
        if not self.due(module):
            return self._call_inner(original, module, args, kwargs, Lean(now()))
        said = self._chosen is not None or self.options.input is not None
        made = [
            self._sources.taken(x, module, name, listed=found.listed, said=said)
            for x, name in zip(found.tensors, found.names, strict=True)
        ]
        places = {id(x): source for x, source in zip(found.tensors, made, strict=True)}
        kept = [places.get(id(leaf), old.get(id(leaf), leaf)) for leaf in leaves]
        self._ledger.note_constants(old.values())
        call = self._module_call(module, args, kwargs, kept, parameters, made[0].leaf)
        copies: Copies = {}
        given, own = (args, kwargs), {id(places[id(x)].leaf): x for x in found.tensors}
        own |= {id(old[id(leaf)]): leaf for leaf in leaves if id(leaf) in old}
        args, kwargs = replace_leaves(given, [k.leaf if isinstance(k, Source) else k for k in kept], copies)
        own |= {id(copy): original for original, copy in copies.values()}
        return self._call_inner(original, module, args, kwargs, call, given=(given, own))

    def _found(
        self, module: nn.Module, parameters: list[nn.Parameter], args: Any, kwargs: Any, old: dict[int, Tensor]
    ) -> inputs.Found:
        trains = torch.is_grad_enabled() and any(p.requires_grad for p in parameters)
        if self._chosen is None and not trains:
            return inputs.Found(reason=about_models.FROZEN)
        if self._sources.said_by_watching:
            return inputs.Found(reason=about_models.NOT_WATCHED)
        found = inputs.find_x(module, args, kwargs, self.options, old)
        if any(x.requires_grad for x in found.tensors):
            return inputs.Found(reason=about_models.INPUT_GRADIENT)
        return found

    def _call_after(
        self, original: Call, module: nn.Module, args: Any, kwargs: Any, leaves: list[Any],
        nodes: dict[int, Node | None],
    ) -> Any:  # fmt: skip
        recorded = [leaf for leaf in leaves if isinstance(leaf, Tensor) and nodes[id(leaf)] is not None]
        versions = [(tensor, version_of(tensor)) for tensor in recorded]
        parameters = list(module.parameters())
        self.note_weights(module, parameters)
        call = without_record(nodes.values())
        if call is None:
            inputs.reject_wrappers(module)
            inputs.reject_cut_off(module, recorded, parameters)
            kept = [nodes.get(id(leaf)) or leaf for leaf in leaves]
            call = self._module_call(module, args, kwargs, kept, parameters, recorded[0])
        return self._call_inner(original, module, args, kwargs, call, versions, nodes)

    def _call_inner(
        self,
        original: Call,
        module: nn.Module,
        args: Any,
        kwargs: Any,
        call: Node,
        versions: list[tuple[Tensor, int]] | None = None,
        nodes: dict[int, Node | None] | None = None,
        given: tuple[Any, dict[int, Any]] = (None, {}),
    ) -> Any:
        filled = Filled(args, kwargs, given[1])
        plain = [(t, version_of(t)) for t in _plain_in(call, args, kwargs)]
        self.depth += 1
        try:
            result = original(module, *args, **kwargs)
        except RuntimeError as error:
            told = None if isinstance(call, Lean) else about_inputs.about_its_input(type(module).__name__, error)
            if told is None:
                raise
            raise told from error
        finally:
            self.depth -= 1
        self._tracer.mark_written(call, versions or [], nodes or {})
        contents = filled.results(result)
        fills, contents = contents is not None, contents or contents_of(result)
        result = filled.handed_back(result, given[0])
        self._tracer.mark_results(call, contents, returned=[t for t, version in plain if version_of(t) == version])
        if isinstance(call, ModuleCall):
            call.fills, call.form = fills, form_of([result, args, kwargs] if fills else result)
            call.stamps = [version_of(t) for t, _ in zip(call.plain, call.stamps, strict=False)]
            call.attributes.call_ended()
            for buffer, name in call.before.drop_graphs(self._ledger.is_input):
                self._ledger.mark(buffer, Kept(now(), f"{type(module).__name__}.{name}"))
        self._note_closed(module, contents)
        return result

    def _call_plain(self, original: Call, module: nn.Module, args: Any, kwargs: Any) -> Any:
        """Call a module that is not recorded; what it returns is known to come from its inputs."""
        self.depth += 1
        try:
            result = original(module, *args, **kwargs)
        finally:
            self.depth -= 1
        ledger = self._ledger
        received = tensors_of((args, kwargs))
        outputs = [leaf for leaf in contents_of(result) if isinstance(leaf, Tensor)]
        ledger.note_derived(outputs, received, [ledger.get(t) for t in received], cut=False)
        frozen = not (torch.is_grad_enabled() and any(p.requires_grad for p in module.parameters()))
        # a module of buffers or of vectors only (a normalisation, say) passes data on, not features
        if frozen and any(t.is_floating_point() for t in received) and inputs.has_layers(module):
            for output in outputs:
                ledger.of(output).features = type(module).__name__
        return result

    def _module_call(
        self, module: nn.Module, args: Any, kwargs: Any, kept: list[Any], parameters: list[nn.Parameter], like: Tensor
    ) -> ModuleCall:
        devices = {like.device, *(p.device for p in parameters)}
        autocast, random = Autocast.save(like.device.type), RandomState.save(devices)
        args, kwargs = replace_leaves((args, kwargs), kept, {})
        needs, plain = linked(kept)
        stamps = [version_of(t) for t in plain]  # as many as there are arguments; noted again after the call
        plain += set_on(module, self._ledger)
        call = ModuleCall(
            now(), args, kwargs, needs, plain, autocast, module, random, module.training, parameters,
            [p._version for p in parameters], [p.requires_grad for p in parameters], Attributes([module]),
            Before([module]), stamps=stamps,
        )  # fmt: skip
        register(call)
        return call

    def _note_closed(self, module: nn.Module, contents: list[Any]) -> None:
        if not any(isinstance(leaf, Tensor) for leaf in contents):
            kinds = sorted({type(leaf).__name__ for leaf in contents})
            self.skipped[type(module).__name__] = f"its result of type {', '.join(kinds)} is not looked into"

    def note_weights(self, module: nn.Module, parameters: Iterable[nn.Parameter]) -> None:
        """Remember the trainable weights of a module whose gradients the hook answers for."""
        self._weights[module] = frozenset(id(p) for p in parameters if p.requires_grad)


def _plain_in(call: Node, args: Any, kwargs: Any) -> list[Tensor]:
    """Return the unrecorded tensors that a module may hand back as they are: arguments that are not x, and weights."""
    return [*call.plain, *call.parameters] if isinstance(call, ModuleCall) else tensors_of((args, kwargs))
