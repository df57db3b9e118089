"""The words of the errors about the models of a loop: which are left alone, which cannot be called again."""

from __future__ import annotations

from typing import Final

from guard_plugins.curvature.messages.remedies import EXPLICIT
from guard_plugins.errors import HookError

FROZEN: Final = "no trainable weights, or called without gradients"
NO_FLOAT: Final = "no floating-point tensor among its inputs"
INPUT_GRADIENT: Final = "its input requires a gradient already: an attack, or learned parts (then hook.watch the data)"
NOT_WATCHED: Final = "the loop watches its x, and no input of this call was computed from it"


def no_such_input(which: str | int) -> str:
    """Return why a module was skipped whose arguments lack the input named by ``input=``."""
    return f"no floating-point tensor under input={which!r}"


def head_on_frozen(what: str, backbone: str) -> HookError:
    """Return the error for a trainable module fed by a frozen one."""
    return HookError(
        "the loss was about to be regularised around features, not around data",
        seen=f"{what} comes from {backbone}, which has no trainable weights or ran without gradients",
        do="say what x is: CurvatureHook(model=<the backbone>) for the data; model=<the head> or input=0 for the "
        "features",
    )


def without_shapes(module: str) -> HookError:
    """Return the error for a model with lazy layers that have seen no data."""
    return HookError(
        f"{module} has weights that get their shapes from the first batch",
        seen="lazy layers, such as nn.LazyLinear, that were not called yet",
        do="call it once on a batch before the hook begins, and before the optimiser is made",
    )


def unsupported_wrapper(wrapper: str) -> HookError:
    """Return the error for DataParallel, FSDP and Opacus."""
    private = wrapper == "GradSampleModule"
    why = (
        "whose per-sample gradients belong to one backward pass"
        if private
        else "whose scattering or sharding a replay would have to redo"
    )
    return HookError(
        f"models wrapped in {wrapper} cannot be regularised",
        seen=f"the loop calls a model wrapped in {wrapper}, {why}",
        do="train without the hook, or without the wrapper"
        if private
        else "use DistributedDataParallel, or one device",
    )


def mode_changed(module: str, then: bool) -> HookError:
    """Return the error for a model whose training flag changed between forward and backward."""
    return HookError(
        f"{module} changed between train() and eval() after its forward pass and before backward",
        seen=f"training was {then} in the forward pass and is {not then} at backward",
        do="call backward before switching the mode",
    )


def foreign_weights(module: str) -> HookError:
    """Return the error for a model called with other weights than its own."""
    return HookError(
        f"{module} was called with other weights than it has now",
        seen="its parameters at backward are not the tensors of its forward pass (functional_call, or swapped weights)",
        do=f"{EXPLICIT} with a module that owns those weights",
    )


def weights_written(module: str) -> HookError:
    """Return the error for weights that changed between forward and backward."""
    return HookError(
        f"the weights of {module} were written after its forward pass and before backward",
        seen="their version counters changed, or the loop wrote through their .data",
        do="call backward first",
    )


def advances_its_weights(module: str) -> HookError:
    """Return the error for a model that writes its own weights when it is called."""
    return HookError(
        f"{module} writes its own weights when it is called, through .data, so no call can be made again",
        seen="a weight differed after the same call was made twice",
        do="update them in the loop after the step. If they are set once, from the first batch, call the model on one "
        "before training",
    )
