"""Noting how tensors follow from one another outside the model: loss functions, sums, reshapes, writes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from guard_plugins.curvature.recipes import Broken, Lean, Node, Operation, Output, Written, now
from guard_plugins.curvature.states import Autocast, RandomState
from guard_plugins.curvature.structures import leaves_of, map_leaves, replace_leaves
from guard_plugins.curvature.traced import Traced, mark, recipe_of, strip

_RANDOM = frozenset(
    {
        F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout, F.rrelu,
        F.gumbel_softmax, F.scaled_dot_product_attention, F.multi_head_attention_forward,
        torch.dropout, torch.alpha_dropout, torch.feature_alpha_dropout, torch.feature_dropout, torch.rrelu,
    }
)  # fmt: skip
_WRITING = frozenset({"__setitem__", "__iadd__", "__isub__", "__imul__", "__itruediv__", "__ipow__"})
_VIEW_WRITE = "a tensor on the way to the loss was written through a view of it"
_PLAIN_WRITE = "model outputs were written into a plain tensor, which the loss then used"
_COMPILED = "the loss was computed inside a function compiled by torch.compile"

Recipes = dict[int, Node]


def record_operation(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run ``function`` and mark its differentiable results; detached, no-grad and integer results are plain."""
    leaves = leaves_of((args, kwargs))
    traced = [leaf for leaf in leaves if isinstance(leaf, Traced)]
    with torch._C.DisableTorchFunctionSubclass():
        recipes = recipes_of(traced)
        random = RandomState.save(t.device for t in traced) if function in _RANDOM else None
        tensors = [t for t in leaves if isinstance(t, Tensor)] if _may_write(function, kwargs) else traced
        versions = [(t, t._version) for t in tensors]
        result = function(*args, **kwargs)
        if not torch.is_grad_enabled():
            return map_leaves(strip, result)
        call: Node
        if all(isinstance(recipe, Lean) for recipe in recipes.values()):
            call = Lean(now())
        else:
            kept = [noted(leaf, recipes) for leaf in leaves]
            autocast = Autocast.save(traced[0].device.type)
            again_args, again_kwargs = replace_leaves((args, kwargs), kept)
            call = Operation(now(), again_args, again_kwargs, *linked(kept), autocast, function, random)
        mark_written(call, versions, recipes)
        return mark_results(call, result)


def recipes_of(traced: list[Traced]) -> Recipes:
    """Return the recipe of each recorded tensor by identity; broken ones where the tensor was changed unseen."""
    return {id(tensor): _recipe_now(tensor) for tensor in traced}


def _recipe_now(tensor: Traced) -> Node:
    recipe = recipe_of(tensor)
    if recipe is None:
        return Broken(now(), _COMPILED)
    if tensor.stamp != tensor._version and not isinstance(recipe, Lean):
        return Broken(now(), _VIEW_WRITE)
    return recipe


def noted(leaf: Any, recipes: Recipes) -> Any:
    """Return what a recipe keeps of an argument: the node of a recorded tensor, the plain tensor of any other."""
    recipe = recipes.get(id(leaf))
    return strip(leaf) if recipe is None or isinstance(recipe, Lean) else recipe


def linked(leaves: list[Any]) -> tuple[list[Node], list[Tensor]]:
    """Return the nodes among the kept leaves of a call, and the plain tensors that have a graph of their own."""
    nodes = [leaf for leaf in leaves if isinstance(leaf, Node)]
    return nodes, [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.grad_fn is not None]


def mark_results(call: Node, result: Any) -> Any:
    """Return ``result`` with each differentiable tensor marked as an output of ``call``."""
    places = itertools.count()

    def change(leaf: Any) -> Any:
        place = next(places)
        if not isinstance(leaf, Tensor) or isinstance(recipe_of(leaf), Broken):
            return leaf
        if leaf.requires_grad and leaf.is_floating_point():
            return mark(leaf, call if isinstance(call, Lean) else Output(now(), call, place))
        return strip(leaf)

    return map_leaves(change, result)


def mark_written(call: Node, versions: list[tuple[Tensor, int]], recipes: Recipes) -> None:
    """Mark the tensors ``call`` wrote into: those whose version counter is not the one in ``versions`` any more."""
    for target, version in versions:
        if target._version == version or not target.requires_grad:
            continue
        recipe = recipes.get(id(target))
        if isinstance(call, Lean):
            mark(target, call)
        elif recipe is not None:
            mark(target, Written(now(), call, recipe))
        else:
            # the class is swapped in place because the loop goes on using this very object
            target.__class__ = Traced
            mark(target, Broken(now(), _PLAIN_WRITE))


def _may_write(function: Callable[..., Any], kwargs: dict[str, Any]) -> bool:
    name = getattr(function, "__name__", "")
    return name in _WRITING or (name.endswith("_") and not name.endswith("__")) or kwargs.get("out") is not None
