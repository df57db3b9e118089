"""Which argument of a model is x."""

from __future__ import annotations

import inspect
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.rnn import PackedSequence

from guard_plugins.curvature.messages import about_inputs, about_models
from guard_plugins.curvature.objective.options import Options
from guard_plugins.curvature.record.arguments import spent
from guard_plugins.curvature.record.graph import Lean, Node
from guard_plugins.curvature.record.known import is_data
from guard_plugins.curvature.record.ledger import TensorLedger
from guard_plugins.curvature.state.pytree import leaves_of, tensors_of
from guard_plugins.curvature.state.wrappers import unsupported_wrapper
from guard_plugins.errors import HookError

_NOT_X: Final = ("mask", "label", "target", "weight", "timestep")


@dataclass(frozen=True)
class Found:
    """The tensors a call receives as x, or why there are none.

    Attributes:
        tensors: The distinct tensors.
        names: How messages call them.
        listed: Whether they are the elements of a list, each perhaps one sample.
        reason: Why the call is passed over, if it is.
        error: What is wrong, if the loop has to say which tensor is x.
    """

    tensors: tuple[Tensor, ...] = ()
    names: tuple[str, ...] = ()
    listed: bool = False
    reason: str = ""
    error: HookError | None = None


def find_x(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], options: Options, old: Container[int] = ()
) -> Found:
    """Return the tensors of a model's arguments that are x: the one ``input=`` names, else the only float one.

    Tensors whose identities are in ``old`` are none: they were computed in earlier steps.
    """
    named = list(_named(module, args, kwargs))
    which = options.input
    if which is not None:
        return _chosen(module, args, kwargs, which)
    packed = next((name for name, value in named if isinstance(value, PackedSequence)), None)
    if packed is not None:
        return Found(error=about_inputs.unusable_input(_title(module), packed, "a PackedSequence"))
    floats = ((name, t) for name, value in named for name, t in _tensors(name, value) if is_data(t))
    found = {id(t): (name, t) for name, t in floats if id(t) not in old}
    names, tensors = tuple(n for n, _ in found.values()), tuple(t for _, t in found.values())
    if not tensors:
        return Found(reason=_none_among(named))
    if len(tensors) > 1:
        shown = [f"{name} {tuple(t.shape)}" for name, t in found.values()]
        likely = _likely(found.values())
        return Found(error=about_inputs.several_inputs(_title(module), shown, likely))
    return _only(module, named, names[0], tensors[0])


def _likely(found: Iterable[tuple[str, Tensor]]) -> str:
    """Return the argument, or key of a dict, to propose as x: the first one of most dimensions that is no mask."""
    named = [(name.split("[")[0], tensor) for name, tensor in found]
    data = [(name, t) for name, t in named if not any(word in name.lower() for word in _NOT_X)] or named
    most = max(tensor.dim() for _, tensor in data)
    return next(name for name, tensor in data if tensor.dim() == most)


def _only(module: nn.Module, named: list[tuple[str, Any]], name: str, x: Tensor) -> Found:
    error = None
    if _in_list_of_images(named, x):
        error = about_inputs.list_input(_title(module), name, tuple(x.shape))
    elif _beside_integers(module, named, name, x):
        error = about_inputs.doubtful_input(_title(module), name, tuple(x.shape))
    return Found((x,), (name,), error=error)


def _chosen(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], which: str | int) -> Found:
    value = _argument(module, args, kwargs, which)
    tensors = tuple({id(t): t for t in tensors_of(value) if is_data(t)}.values())
    if not tensors:
        return Found(reason=about_models.no_such_input(which))
    if len(tensors) > 1 and not isinstance(value, (list, tuple)):
        shown = [f"{name} {tuple(t.shape)}" for name, t in _tensors(str(which), value) if is_data(t)]
        return Found(error=about_inputs.several_inputs(_title(module), shown, _likely(_tensors(str(which), value))))
    return Found(tensors, (str(which),) * len(tensors), listed=isinstance(value, (list, tuple)))


def _named(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    try:
        parameters = list(inspect.signature(module.forward).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    places = [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD, p.KEYWORD_ONLY)]
    for index, value in enumerate(args):
        yield places[index] if index < len(places) else f"argument {index}", value
    yield from kwargs.items()


def _tensors(name: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, dict):
        for key, entry in value.items():
            yield from _tensors(str(key), entry)
    elif isinstance(value, (list, tuple)):
        for index, entry in enumerate(value):
            yield from _tensors(f"{name}[{index}]", entry)
    else:
        yield from ((name, tensor) for tensor in tensors_of(value))


def _in_list_of_images(named: list[tuple[str, Any]], x: Tensor) -> bool:
    """Return whether x is the only element of a list of tensors, which then may be an image without a batch."""
    for _, value in named:
        if isinstance(value, (list, tuple)) and any(leaf is x for leaf in value):
            return all(isinstance(leaf, Tensor) and leaf.is_floating_point() for leaf in value)
    return False


def _beside_integers(module: nn.Module, named: list[tuple[str, Any]], name: str, x: Tensor) -> bool:
    """Return whether x may be the mask or the target of integer inputs rather than data."""
    integers = [t for _, value in named for t in tensors_of(value) if _is_integer(t)]
    if not integers:
        return False
    if x.dim() == 1 or any(word in name.lower() for word in _NOT_X) or any(t.shape == x.shape for t in integers):
        return True
    embeds = any(isinstance(part, (nn.Embedding, nn.EmbeddingBag)) for part in module.modules())
    return embeds and any(t.dim() > 1 for t in integers)


def _is_integer(tensor: Tensor) -> bool:
    kind = tensor.dtype
    return tensor.dim() > 0 and not (kind.is_floating_point or kind.is_complex or kind == torch.bool)


def _none_among(named: list[tuple[str, Any]]) -> str:
    opaque = {
        type(leaf).__name__
        for _, value in named
        for leaf in leaves_of(value)
        if not isinstance(leaf, (Tensor, int, float, str, type(None)))
    }
    return about_models.NO_FLOAT + (f" ({', '.join(sorted(opaque))} is not looked into)" if opaque else "")


def _argument(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], which: str | int) -> Any:
    if isinstance(which, int):
        return args[which] if -len(args) <= which < len(args) else None
    if which in kwargs:
        return kwargs[which]
    for holder in (*args, *kwargs.values()):
        if isinstance(holder, dict) and which in holder:
            return holder[which]
    names = list(inspect.signature(module.forward).parameters)
    return args[names.index(which)] if which in names and names.index(which) < len(args) else None


def left_in_containers(
    args: tuple[Any, ...], leaves: list[Any], nodes: dict[int, Node | None], ledger: TensorLedger
) -> dict[int, Tensor]:
    """Return detached what earlier steps left in a dict or list that the loop hands over again, by identity."""
    if all(isinstance(argument, Tensor) for argument in args):
        return {}
    direct, found = {id(argument) for argument in args}, dict[int, Tensor]()
    for leaf in leaves:
        node = nodes.get(id(leaf))
        if node is not None and id(leaf) not in direct and (spent(node) or _of_an_earlier_step(node, leaf, ledger)):
            found[id(leaf)] = leaf.detach()
    return found


def _of_an_earlier_step(node: Node, leaf: Tensor, ledger: TensorLedger) -> bool:
    """Return whether a step made ``leaf`` of which nothing is kept, and its backward call is over."""
    known = ledger.get(leaf)
    return isinstance(node, Lean) and known is not None and known.token.step < ledger.step


def reject_cut_off(module: nn.Module, recorded: list[Tensor], parameters: list[nn.Parameter]) -> None:
    """Raise where a trainable module is given tensors that depend on x by masks and indices alone."""
    floats = [t for t in recorded if t.is_floating_point()]
    if floats and not any(t.requires_grad for t in recorded) and any(p.requires_grad for p in parameters):
        raise about_inputs.cut_off(_title(module), f"a tensor of shape {tuple(floats[0].shape)}")


def reject_wrappers(module: nn.Module) -> None:
    """Raise where a module cannot be called again: wrapped for parallel work, or without weights yet."""
    wrapper = unsupported_wrapper(module)
    if wrapper:
        raise about_models.unsupported_wrapper(wrapper)
    if any(is_lazy(p) for p in module.parameters()):
        raise about_models.without_shapes(_title(module))


def _title(module: nn.Module) -> str:
    return type(module).__name__


def has_layers(module: nn.Module) -> bool:
    """Return whether a module makes features of data: it has a layer of PyTorch's with weights, or a matrix.

    A normalisation that holds its means and scales as vectors makes none.
    """
    layers = any(part._parameters and type(part).__module__.startswith("torch.nn.") for part in module.modules())
    return layers or any(sum(size > 1 for size in weight.shape) > 1 for weight in module.parameters())
