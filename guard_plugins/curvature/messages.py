"""The words of every error the hook raises: what happened, what was seen, what to do."""

from __future__ import annotations

from typing import Final

from guard_plugins.errors import HookError

FROZEN: Final = "no trainable weights, or called without gradients"
NO_FLOAT: Final = "no floating-point tensor among its inputs"
INPUT_GRADIENT: Final = "its input requires a gradient already: an attack, or learned parts (then hook.watch the data)"
NOT_WATCHED: Final = "the loop watches its x, and no input of this call was computed from it"

_EXPLICIT: Final = "use the explicit form, loss = hook.loss(model, x, loss_fn)"


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


def written_since(shape: tuple[int, ...]) -> HookError:
    """Return the error for a tensor that the loss was computed with and that was written before backward."""
    return HookError(
        "this loss cannot be computed again as it was",
        seen=f"a tensor of shape {shape} that the loss was computed with was written between it and backward",
        do="write it after backward (a memory of features, class centres), or give the loss a copy of it (t.clone())",
    )


def dropout_in_loop() -> HookError:
    """Return the error for running statistics beside a dropout that no module of the model does."""
    return HookError(
        'norm_stats="running" computes the term in eval mode, and a dropout of the loop knows no mode',
        seen="the loop calls a dropout itself",
        do="put the dropout into the model, or leave norm_stats out",
    )


def wants_features() -> HookError:
    """Return the error for gradients of weights and of tensors inside the loop's graph in one call."""
    return HookError(
        "gradients of weights and of features were asked for in one call",
        seen="torch.autograd.grad with tensors that the loop computed beside weights",
        do="ask for those of the features first (retain_graph=True), then for those of the weights: only these are "
        "regularised",
    )


def advances_its_weights(module: str) -> HookError:
    """Return the error for a model that writes its own weights when it is called."""
    return HookError(
        f"{module} writes its own weights when it is called, through .data, so no call can be made again",
        seen="a weight differed after the same call was made twice",
        do="update them in the loop after the step. If they are set once, from the first batch, call the model on one "
        "before training",
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


def broken(why: str) -> HookError:
    """Return the error for a loss that depends on the model in a way that cannot be replayed."""
    return HookError(
        "this loss cannot be computed again at another input",
        seen=why,
        do="avoid that step (loss = loss + part in place of +=, torch.stack or torch.cat, retain_graph=True in the "
        "first of two backward calls, a penalty of gradients in `with hook.paused():`, which adds it as it is), "
        f"or {_EXPLICIT}",
    )


def replay_failed(error: Exception) -> HookError:
    """Return the error for a replay that raised."""
    return HookError(
        "computing the loss again at another input failed",
        seen=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
        do=f"if the forward pass has side effects, remove them; otherwise {_EXPLICIT}",
    )


def gradient_failed(error: Exception) -> HookError:
    """Return the error for a gradient with respect to the input that PyTorch could not take."""
    return HookError(
        "the gradient with respect to the input could not be taken",
        seen=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
        do="keep the graph of the loss whole until backward; use checkpoint(..., use_reentrant=False)",
    )


def no_double_backward(error: Exception) -> HookError:
    """Return the error for the gradient penalty where PyTorch has no double backward."""
    return HookError(
        'penalty="gradient" differentiates twice, and a part of this model can be differentiated only once',
        seen=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
        do='use penalty="loss"; for attention, sdpa_kernel(SDPBackend.MATH); do not compile the model',
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
        do=f"{_EXPLICIT} with a module that owns those weights",
    )


def weights_written(module: str) -> HookError:
    """Return the error for weights that changed between forward and backward."""
    return HookError(
        f"the weights of {module} were written after its forward pass and before backward",
        seen="their version counters changed, or the loop wrote through their .data",
        do="call backward first",
    )


def unseen_gradients(what: str, count: int, seen: str) -> HookError:
    """Return the error for gradients that a backward call outside the record left in weights."""
    return HookError(
        "an optimiser step was about to use gradients the hook never saw",
        seen=f"{what} was differentiated on its own, and its gradients are still in {count} weights; it was not "
        "computed from a recorded model call by operations the hook follows (not by a custom autograd.Function, a "
        f"scripted function, or a function compiled by torch.compile); {seen}",
        do="compute it from the output of model(x) with ordinary PyTorch operations; or, if it is not to be "
        "regularised, put it in `with hook.paused():`; zero the gradients first if they belong to an attack; or "
        f"{_EXPLICIT}",
    )


def unseen_gradient(what: str) -> HookError:
    """Return the error for autograd.grad with respect to weights, of a loss outside the record."""
    return HookError(
        "torch.autograd.grad was asked for gradients of weights the hook never saw",
        seen=f"{what} was not computed from a recorded model call by operations the hook follows",
        do="compute it from the output of model(x) with ordinary PyTorch operations; if it is not to be regularised, "
        f"put it in `with hook.paused():`; or {_EXPLICIT}",
    )


def without_shapes(module: str) -> HookError:
    """Return the error for a model with lazy layers that have seen no data."""
    return HookError(
        f"{module} has weights that get their shapes from the first batch",
        seen="lazy layers, such as nn.LazyLinear, that were not called yet",
        do="call it once on a batch before the hook begins, and before the optimiser is made",
    )


def value_differs(loop: float, replayed: float) -> HookError:
    """Return the error for a self-check whose value differs."""
    return HookError(
        "the replayed loss is not the loop's loss, so the term would be wrong",
        seen=f"the loop computed {loop:.6g}, its replay at the same input {replayed:.6g}; some part is random, keeps "
        "state between calls, or cannot be followed (custom autograd.Function, writes into plain tensors)",
        do=f"draw random numbers with PyTorch inside the model, avoid the untracked part, or {_EXPLICIT}",
    )


def gradient_differs(difference: float) -> HookError:
    """Return the error for a self-check whose input gradient differs."""
    return HookError(
        "a part of the loss reaches the model's input in a way the hook cannot follow",
        seen=f"the input gradient of the replay differs from the loop's by {difference:.2g} of its norm; typical "
        "causes are a custom autograd.Function, a scripted loss and writes into plain tensors",
        do=f"express that part with ordinary PyTorch operations, or {_EXPLICIT}",
    )


def untracked_part(tensor: str, kept: str) -> HookError:
    """Return the error for a loss one of whose parts reaches the input unseen.

    Args:
        tensor: What reaches it.
        kept: The attribute of a module it was computed from, or an empty string.
    """
    if kept:
        what, name = f"kept by a module or a forward hook, as {kept}", kept.rpartition(".")[2]
        do = f"return it from forward, `return out, self.{name}`, and take it from model(x), or {_EXPLICIT}"
    else:
        what = "custom autograd.Function, scripted function, or activations kept by a module or a forward hook"
        do = f"express that part with ordinary PyTorch operations on the model's outputs, or {_EXPLICIT}"
    return HookError(
        "a part of the loss depends on the model's input in a way the hook cannot follow",
        seen=f"{tensor} leads back to the input through its autograd graph, not through recorded operations ({what})",
        do=do,
    )


def step_unreached(seen: str) -> HookError:
    """Return the error for an optimiser step without a backward pass the hook saw."""
    return HookError(
        "an optimiser step was about to use gradients the hook never saw",
        seen=seen,
        do="check that the loss is computed from the output of a call model(x) by ordinary PyTorch operations; name "
        f"the model with CurvatureHook(model=...); wrap attacks in hook.paused(); or {_EXPLICIT}",
    )


def never_fired(seen: str) -> HookError:
    """Return the error for a context that ended without a regularised backward pass."""
    return HookError(
        "the hook was never reached",
        seen=seen,
        do="wrap the function that trains; call the model as model(x) and backward on a loss computed from its output; "
        f"or {_EXPLICIT}",
    )


def steps_by_hand(count: int) -> HookError:
    """Return the error for a loop without an optimiser, whose steps cannot be counted."""
    return HookError(
        "`every` and `ramp` count the steps of an optimiser, and this loop updates its weights itself",
        seen=f"weights changed {count} times in one context, and nothing of torch.optim made a step",
        do="open a context for each step (contexts are counted then), use torch.optim, or leave every and ramp out",
    )
