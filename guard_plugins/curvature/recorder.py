"""Recording calls of modules: the outermost trainable one receives x as a leaf, those after it are noted whole."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from guard_plugins.curvature import messages
from guard_plugins.curvature.inputs import FrozenCalls, position_of_x
from guard_plugins.curvature.operations import Recipes, linked, mark_results, mark_written, noted, recipes_of
from guard_plugins.curvature.options import Options
from guard_plugins.curvature.recipes import Lean, ModuleCall, Node, Source, now
from guard_plugins.curvature.states import Autocast, RandomState
from guard_plugins.curvature.structures import leaves_of, replace_leaves
from guard_plugins.curvature.traced import Traced, strip
from guard_plugins.curvature.wrappers import is_opaque, unsupported_wrapper, unwrapped

Call = Callable[..., Any]


class Recorder:
    """Turns module calls into recipes.

    Args:
        options: The hook's settings.
        due: Tells whether the present optimiser step is a regularised one.

    Attributes:
        calls: How many times a model received a recorded x.
        skipped: Why modules were not recorded, by class name.
        depth: Nesting of recorded calls; inner modules of a recorded one are left alone.
    """

    def __init__(self, options: Options, due: Callable[[], bool]) -> None:
        self.options, self.due = options, due
        self.calls = self.depth = 0
        self.skipped: dict[str, str] = {}
        self.frozen = FrozenCalls()
        self._chosen = None if options.model is None else unwrapped(options.model)
        self._weights: weakref.WeakKeyDictionary[nn.Module, frozenset[int]] = weakref.WeakKeyDictionary()
        self._sources: weakref.WeakValueDictionary[int, Source] = weakref.WeakValueDictionary()

    def trains(self, tensor: Tensor) -> bool:
        """Return whether ``tensor`` is a trainable weight of a recorded module."""
        return any(id(tensor) in weights for weights in self._weights.values())

    def call(self, original: Call, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call ``module`` as the loop asked, recording the call where it is one of a model."""
        leaves = leaves_of((args, kwargs))
        traced = [leaf for leaf in leaves if isinstance(leaf, Traced)]
        if traced and torch.is_grad_enabled():
            return self._call_after(original, module, args, kwargs, traced)
        if self._chosen is not None:
            if unwrapped(module) is not self._chosen or not torch.is_grad_enabled():
                return original(module, *args, **kwargs)
        elif not is_opaque(module):
            return original(module, *args, **kwargs)
        return self._call_first(original, module, args, kwargs, leaves)

    def _call_first(self, original: Call, module: nn.Module, args: Any, kwargs: Any, leaves: list[Any]) -> Any:
        place = position_of_x(module, args, kwargs, self.options.input)
        parameters = list(module.parameters())
        reason = self._reason_to_skip(module, parameters, None if place is None else leaves[place])
        if reason or place is None:
            return self._call_skipped(original, module, args, kwargs, reason, None if place is None else leaves[place])
        self._reject_wrappers(module)
        x = strip(leaves[place])
        if self._chosen is None and self.options.input is None and (origin := self.frozen.origin_of(x)):
            raise messages.head_on_frozen(type(module).__name__, origin, x)
        self.calls += 1
        self._note_weights(module, parameters)
        if not self.due():
            return self._call_inner(original, module, args, kwargs, Lean(now()))
        source = self._source(x, module)
        kept = [strip(leaf) for leaf in leaves]
        kept[place] = source
        leaves[place] = source.leaf
        call = self._module_call(module, args, kwargs, kept, parameters, source.leaf)
        args, kwargs = replace_leaves((args, kwargs), leaves)
        return self._call_inner(original, module, args, kwargs, call)

    def _call_after(self, original: Call, module: nn.Module, args: Any, kwargs: Any, traced: list[Traced]) -> Any:
        if not is_opaque(module):
            return original(module, *args, **kwargs)
        with torch._C.DisableTorchFunctionSubclass():
            recipes = recipes_of(traced)
            versions: list[tuple[Tensor, int]] = [(tensor, tensor._version) for tensor in traced]
        leaves = leaves_of((args, kwargs))
        parameters = list(module.parameters())
        self._note_weights(module, parameters)
        call: Node
        if all(isinstance(recipe, Lean) for recipe in recipes.values()):
            call = Lean(now())
        else:
            kept = [noted(leaf, recipes) for leaf in leaves]
            call = self._module_call(module, args, kwargs, kept, parameters, traced[0])
        args, kwargs = replace_leaves((args, kwargs), [strip(leaf) for leaf in leaves])
        return self._call_inner(original, module, args, kwargs, call, versions, recipes)

    def _call_inner(
        self,
        original: Call,
        module: nn.Module,
        args: Any,
        kwargs: Any,
        call: Node,
        versions: list[tuple[Tensor, int]] | None = None,
        recipes: Recipes | None = None,
    ) -> Any:
        self.depth += 1
        try:
            result = original(module, *args, **kwargs)
        except RuntimeError as error:
            if "leaf Variable that requires grad" in str(error) and not isinstance(call, Lean):
                raise messages.writes_its_input(type(module).__name__, error) from error
            raise
        finally:
            self.depth -= 1
        with torch._C.DisableTorchFunctionSubclass():
            mark_written(call, versions or [], recipes or {})
            return mark_results(call, result)

    def _call_skipped(
        self, original: Call, module: nn.Module, args: Any, kwargs: Any, reason: str, x: Tensor | None
    ) -> Any:
        self.skipped[type(module).__name__] = reason
        self.depth += 1
        try:
            result = original(module, *args, **kwargs)
        finally:
            self.depth -= 1
        # a module of buffers only (a normalisation, say) passes data on, not features
        if x is not None and reason == messages.FROZEN and next(module.parameters(), None) is not None:
            self.frozen.note(module, x, result)
        return result

    def _reason_to_skip(self, module: nn.Module, parameters: list[nn.Parameter], x: Tensor | None) -> str:
        if self._chosen is None and not (torch.is_grad_enabled() and any(p.requires_grad for p in parameters)):
            return messages.FROZEN
        if x is None:
            return messages.NO_FLOAT if self.options.input is None else messages.no_such_input(self.options.input)
        if x.requires_grad:
            return messages.INPUT_GRADIENT
        return ""

    def _source(self, x: Tensor, module: nn.Module) -> Source:
        known = self._sources.get(id(x))
        if known is not None and known.origin() is x and known.version == x._version:
            return known
        with torch._C.DisableTorchFunctionSubclass():
            leaf = x.detach().requires_grad_()
        source = self._sources[id(x)] = Source(now(), leaf, weakref.ref(x), x._version, module)
        return source

    def _module_call(
        self,
        module: nn.Module,
        args: Any,
        kwargs: Any,
        kept: list[Any],
        parameters: list[nn.Parameter],
        like: Tensor,
    ) -> ModuleCall:
        devices = {like.device, *(p.device for p in parameters)}
        autocast, random = Autocast.save(like.device.type), RandomState.save(devices)
        args, kwargs = replace_leaves((args, kwargs), kept)
        return ModuleCall(now(), args, kwargs, *linked(kept), autocast, module, random, module.training, parameters)

    def _note_weights(self, module: nn.Module, parameters: list[nn.Parameter]) -> None:
        self._weights[module] = frozenset(id(p) for p in parameters if p.requires_grad)

    def _reject_wrappers(self, module: nn.Module) -> None:
        wrapper = unsupported_wrapper(module)
        if wrapper:
            raise messages.unsupported_wrapper(wrapper)
